//! TOML as a policy needs it: each key is known, each value has the type it should have, and whatever
//! is wrong is told by its line.

use std::{borrow::Cow, collections::HashSet, ops::Range, rc::Rc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::{Fault, PolicyError};

/// Of a value that is shown, in characters.
const SHOWN_MAX: usize = 100;

/// How much two words must have in common for one to be meant by the other, from 0 to 1.
const LIKENESS_MIN: f64 = 0.7;

/// Where the lines of a text end.
#[derive(Clone)]
struct Lines(Rc<[usize]>);

/// One table, its keys known.
pub(super) struct Fields<'t> {
    lines: Lines,
    place: String,
    span: Range<usize>,
    table: DeTable<'t>,
}

/// One value of a table.
pub(super) struct Field<'t> {
    lines: Lines,
    place: String,
    key: &'static str,
    span: Range<usize>,
    value: DeValue<'t>,
}

/// A text in the document, and its line.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) line: usize,
}

impl<'t> Fields<'t> {
    /// Reads a document with these keys at its top.
    pub(super) fn parse(text: &'t str, known: &[&'static str]) -> Result<Self, PolicyError> {
        let lines = Lines::of(text);
        let table = DeTable::parse(text).map_err(|error| {
            let fault = Box::new(Fault::Toml(clip(error.message())));
            let line = error.span().map(|span| lines.number(&span));
            PolicyError { line, fault }
        })?;
        Self::of(lines, "the policy".to_owned(), table, known)
    }

    fn of(
        lines: Lines,
        place: String,
        table: Spanned<DeTable<'t>>,
        known: &[&'static str],
    ) -> Result<Self, PolicyError> {
        let span = table.span();
        let fields = Self { lines, place, span, table: table.into_inner() };
        let unknown = fields.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(fields),
            Some(key) => Err(Fault::UnknownKey {
                key: clip(key.get_ref()),
                place: fields.place.clone(),
                meant: likest(key.get_ref(), known.iter().copied()),
                known: known.join(", "),
            }
            .at(fields.lines.number(&key.span()))),
        }
    }

    pub(super) fn place(&self) -> String {
        self.place.clone()
    }

    /// Where the table begins.
    pub(super) fn line(&self) -> usize {
        self.lines.number(&self.span)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Field<'t>> {
        let value = self.table.remove(key)?;
        let (lines, place, span) = (self.lines.clone(), self.place.clone(), value.span());
        Some(Field { lines, place, key, span, value: value.into_inner() })
    }

    pub(super) fn need(
        &mut self,
        key: &'static str,
        choose: &'static str,
    ) -> Result<Field<'t>, PolicyError> {
        self.take(key)
            .ok_or_else(|| Fault::Missing { key, place: self.place(), choose }.at(self.line()))
    }
}

impl<'t> Field<'t> {
    pub(super) fn line(&self) -> usize {
        self.lines.number(&self.span)
    }

    pub(super) fn text(self) -> Result<Text, PolicyError> {
        text(&self.value, self.line()).ok_or_else(|| self.is_not("text in quotes"))
    }

    pub(super) fn number(self) -> Result<i64, PolicyError> {
        let DeValue::Integer(number) = &self.value else { return Err(self.is_not("a number")) };
        let number = i64::from_str_radix(number.as_str(), number.radix());
        number.map_err(|_too_large| self.is_not("a small number"))
    }

    /// A list of different texts, in their order.
    pub(super) fn texts(self, max: usize, choose: &'static str) -> Result<Vec<Text>, PolicyError> {
        const EXPECTED: &str = "a list of texts in quotes";
        let (key, place, line) = (self.key, &self.place, self.line());
        let DeValue::Array(values) = &self.value else { return Err(self.is_not(EXPECTED)) };
        if values.is_empty() {
            return Err(Fault::Empty { key, place: place.clone(), choose }.at(line));
        }
        if values.len() > max {
            return Err(Fault::TooMany { place: place.clone(), what: key, max }.at(line));
        }
        let mut seen = HashSet::new();
        let different = |value: &Spanned<DeValue<'t>>| {
            let line = self.lines.number(&value.span());
            let text = text(value.get_ref(), line)
                .ok_or_else(|| type_fault(key, place, value.get_ref(), EXPECTED).at(line))?;
            if seen.insert(text.text.clone()) {
                return Ok(text);
            }
            Err(Fault::Twice { found: clip(&text.text), key, place: place.clone() }.at(line))
        };
        values.iter().map(different).collect()
    }

    /// Tables by their names, in the order of the document.
    pub(super) fn named_tables(
        self,
        known: &[&'static str],
    ) -> Result<Vec<(Text, Fields<'t>)>, PolicyError> {
        const EXPECTED: &str = "a table";
        if !self.value.is_table() {
            return Err(self.is_not(EXPECTED));
        }
        let DeValue::Table(tables) = self.value else { return Ok(Vec::new()) };
        let mut tables: Vec<_> = tables.into_iter().collect();
        tables.sort_by_key(|(name, _)| name.span().start);
        let named = |(name, value): (Spanned<Cow<'t, str>>, Spanned<DeValue<'t>>)| {
            let line = self.lines.number(&name.span());
            let name = name.into_inner().into_owned();
            let table = table(value).map_err(|value| {
                type_fault(&clip(&name), self.key, value.get_ref(), EXPECTED).at(line)
            })?;
            let place = format!("{}.{}", self.key, clip(&name));
            let fields = Fields::of(self.lines.clone(), place, table, known)?;
            Ok((Text { text: name, line }, fields))
        };
        tables.into_iter().map(named).collect()
    }

    /// Tables in double brackets, the first with number 1.
    pub(super) fn numbered_tables(
        self,
        known: &[&'static str],
        max: usize,
    ) -> Result<Vec<Fields<'t>>, PolicyError> {
        const EXPECTED: &str = "a list of tables, each under [[rule]]";
        let line = self.line();
        if !self.value.is_array() {
            return Err(self.is_not(EXPECTED));
        }
        let DeValue::Array(values) = self.value else { return Ok(Vec::new()) };
        if values.len() > max {
            return Err(Fault::TooMany { place: self.place, what: "rules", max }.at(line));
        }
        let numbered = |(value, number): (Spanned<DeValue<'t>>, usize)| {
            let table = table(value).map_err(|value| {
                let line = self.lines.number(&value.span());
                type_fault(self.key, &self.place, value.get_ref(), EXPECTED).at(line)
            })?;
            Fields::of(self.lines.clone(), format!("{} {number}", self.key), table, known)
        };
        values.into_iter().zip(1..).map(numbered).collect()
    }

    fn is_not(&self, expected: &'static str) -> PolicyError {
        type_fault(self.key, &self.place, &self.value, expected).at(self.line())
    }
}

impl Text {
    /// That it is none of those that could stand here.
    pub(super) fn is_unknown(
        &self,
        key: &'static str,
        place: String,
        choose: String,
    ) -> PolicyError {
        Fault::Value { key, place, found: clip(&self.text), choose }.at(self.line)
    }
}

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(end, _)| end).collect())
    }

    /// The number of the line, from 1, in which something begins.
    fn number(&self, span: &Range<usize>) -> usize {
        self.0.partition_point(|end| *end < span.start) + 1
    }
}

/// Of some words the one that somebody probably meant.
pub(super) fn likest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    // Of a long word nothing is meant, and likeness takes quadratic time.
    let word = Some(word).filter(|word| word.len() <= SHOWN_MAX)?;
    let likenesses = words.map(|other| (strsim::jaro(word, other), other));
    let likest = likenesses.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (likest.0 >= LIKENESS_MIN).then(|| likest.1.to_owned())
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

fn text(value: &DeValue<'_>, line: usize) -> Option<Text> {
    value.as_str().map(|text| Text { text: text.to_owned(), line })
}

fn table(value: Spanned<DeValue<'_>>) -> Result<Spanned<DeTable<'_>>, Box<Spanned<DeValue<'_>>>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(Spanned::new(span, table)),
        other => Err(Box::new(Spanned::new(span, other))),
    }
}

fn type_fault(key: &str, place: &str, value: &DeValue<'_>, expected: &'static str) -> Fault {
    let found = match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Fault::Type { key: key.to_owned(), place: place.to_owned(), found, expected }
}

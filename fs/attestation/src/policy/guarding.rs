use super::{links::Alias, rule::Rule, rules::Policy};
use crate::{name::is_publication, verify::Refusal};

/// A rule that has a file, and how it came by it.
#[derive(Clone, Debug)]
pub struct Guarding<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The path that the rule has: what is told.
    pub path: String,
    /// By one of these names the file must be attested. More than one where links lead to it.
    pub names: Vec<String>,
}

impl Policy {
    /// What is asked of a file of this name, to which `aliases` lead as far as `counts` says so. Nothing
    /// where no rule has it.
    ///
    /// By its own name a file must be attested as that. By way of links it may be attested by any of the
    /// paths that the same rule has, or by its own name. A publication is not guarded by its own name;
    /// by that of a link to it whoever comes wants something else.
    ///
    /// # Errors
    /// Those of `counts`.
    pub fn guarding<E>(
        &self,
        name: &str,
        aliases: &[Alias],
        counts: &mut dyn FnMut(&Alias) -> Result<bool, E>,
    ) -> Result<Vec<Guarding<'_>>, E> {
        let name = Some(name).filter(|name| !is_publication(name));
        let own = name.and_then(|name| Some((name, self.rule_for(name)?)));
        let mut linked: Vec<Guarding<'_>> = Vec::new();
        for alias in aliases.iter().filter(|alias| !is_publication(&alias.path)) {
            let Some(rule) = self.rule_for(&alias.path) else { continue };
            if own.is_some_and(|(_, own)| own.number() == rule.number()) || !counts(alias)? {
                continue;
            }
            let same = linked.iter_mut().find(|known| known.rule.number() == rule.number());
            if let Some(guarding) = same {
                guarding.names.push(alias.path.clone());
            } else {
                linked.push(Guarding::by(rule, &alias.path));
            }
        }
        for guarding in &mut linked {
            guarding.names.extend(name.map(str::to_owned));
        }
        let own = own.map(|(name, rule)| Guarding::by(rule, name));
        Ok(own.into_iter().chain(linked).collect())
    }
}

impl<'p> Guarding<'p> {
    fn by(rule: &'p Rule, path: &str) -> Self {
        Self { rule, path: path.to_owned(), names: vec![path.to_owned()] }
    }

    /// Whether the file is attested by one of the names, of each of which `judge` tells. Where it is by
    /// none, the refusal that came furthest.
    ///
    /// # Errors
    /// Those of `judge`, when it can say neither.
    pub fn judge<T, E>(
        &self,
        mut judge: impl FnMut(&str) -> Result<Result<T, Refusal>, E>,
    ) -> Result<Result<T, Refusal>, E> {
        let mut nearest: Option<Refusal> = None;
        for name in &self.names {
            match judge(name)? {
                Ok(admission) => return Ok(Ok(admission)),
                Err(refusal) => {
                    nearest = Some(match nearest {
                        Some(nearest) => nearest.or_further(refusal),
                        None => refusal,
                    });
                }
            }
        }
        let unattested = || Refusal::Unattested { name: self.path.clone() };
        Ok(Err(nearest.unwrap_or_else(unattested)))
    }
}

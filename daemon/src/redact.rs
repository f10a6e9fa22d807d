//! What a command line must not say for ever. Arguments and labels pass through here before they
//! are recorded, because a signature cannot be taken back.
//!
//! Names decide: whatever is given to an option, a variable, a header or a field whose name holds
//! one of the words below is replaced, also inside a command for a shell or a piece of JSON. Values
//! decide where they give themselves away: credentials in a URL, an authorization header. A secret
//! with a harmless name in plain sight stays; nobody can tell it from a file name. In doubt too much
//! is taken out.

/// What stands in place of what was taken out.
pub const REDACTED: &str = "[redacted]";

/// Parts of names, as words, whose value is a secret.
const SECRET_WORDS: [&str; 21] = [
    "token",
    "key",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "sshkey",
    "authkey",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passin",
    "pass",
    "pwd",
    "credential",
    "credentials",
    "auth",
    "authorization",
    "bearer",
    "cookie",
];

/// The same in the query of a URL, where a signature opens what it signs.
const SECRET_PARAMETERS: [&str; 2] = ["sig", "signature"];

/// Names that hold such a word and whose value everybody may see.
const HARMLESS_NAMES: [&str; 13] = [
    "public-key",
    "key-id",
    "key-name",
    "sort-key",
    "primary-key",
    "foreign-key",
    "text-key",
    "image-key",
    "label-key",
    "max-token",
    "num-token",
    "tokenizer",
    "pad-token",
];

/// Words that end what can be told from a name: `--max-tokens 5` is no secret.
const COUNTED: [&str; 2] = ["tokens", "keys"];

/// The arguments of a command with their secrets taken out. The program itself, the first one,
/// stays as it is but for credentials in it.
pub fn command(arguments: &[String]) -> Vec<String> {
    let mut secret_follows = false;
    arguments
        .iter()
        .map(|text| {
            if secret_follows && !text.starts_with('-') {
                secret_follows = false;
                return REDACTED.to_owned();
            }
            secret_follows = announces_a_secret(text);
            argument(text)
        })
        .collect()
}

/// The value of a label or variable of this name, with its secrets taken out.
pub fn value(name: &str, value: &str) -> String {
    if is_secret_name(name) { REDACTED.to_owned() } else { text(value) }
}

/// An option that takes its value from the next argument.
fn announces_a_secret(argument: &str) -> bool {
    argument.starts_with('-') && !argument.contains('=') && is_secret_name(argument)
}

fn argument(argument: &str) -> String {
    match argument.split_once('=') {
        Some((name, given)) if is_name(name) => format!("{name}={}", value(name, given)),
        _ => text(argument),
    }
}

/// Takes out what gives itself away in any text.
fn text(text: &str) -> String {
    without_fields(&without_header(&without_url_credentials(text)))
}

/// `scheme://user:password@host` becomes `scheme://[redacted]@host`, wherever it stands.
fn without_url_credentials(text: &str) -> String {
    let Some((before, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest
        .find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace())
        .unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => authority.to_owned(),
    };
    let after = without_url_credentials(&without_query_secrets(after));
    format!("{before}://{host}{after}")
}

/// `?token=..&x=1` becomes `?token=[redacted]&x=1`.
fn without_query_secrets(after: &str) -> String {
    let Some((path, query)) = after.split_once('?') else {
        return after.to_owned();
    };
    let parameters: Vec<_> = query.split('&').map(parameter).collect();
    format!("{path}?{}", parameters.join("&"))
}

fn parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if is_secret_parameter(name) => format!("{name}={REDACTED}"),
        _ => parameter.to_owned(),
    }
}

/// `cd x && TOKEN=y z`, `--token y z` and `{"token": "y"}`: what is given to a secret name in the
/// middle of a text, up to where it ends.
fn without_fields(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name_character) {
        let (before, from) = rest.split_at(start);
        let (name, after) = from.split_at(from.find(not_in_name).unwrap_or(from.len()));
        kept.push_str(before);
        kept.push_str(name);
        rest = after;
        if is_secret_name(name)
            && let Some(given) = given(name, after)
        {
            let (between, value) = after.split_at(given);
            kept.push_str(between);
            kept.push_str(REDACTED);
            rest = &value[covered_length(value)..];
        }
    }
    kept + rest
}

/// Where the value begins that is given to `name`, when `after` gives it one.
fn given(name: &str, after: &str) -> Option<usize> {
    let unquoted = after.trim_start_matches(['"', '\'']);
    let is_quoted = unquoted.len() < after.len();
    let sign = unquoted.trim_start();
    let value = match sign.chars().next()? {
        '=' => sign[1..].trim_start_matches('='),
        ':' if is_quoted || sign[1..].starts_with([' ', '"', '\'']) => sign[1..].trim_start(),
        _ if takes_next_word(name) && sign.len() < unquoted.len() => sign,
        _ => return None,
    };
    let is_option = value.starts_with('-') && !sign.starts_with(['=', ':']);
    (!is_option && value_length(value) > 0).then(|| after.len() - value.len())
}

/// How much is taken out from where a value begins: a value that ends with a secret name, as in
/// `auth: {"token": "y"}`, takes along what is given to that.
fn covered_length(value: &str) -> usize {
    let mut length = value_length(value);
    while let Some(further) = carried_on(value, length) {
        length = further;
    }
    length
}

fn carried_on(value: &str, length: usize) -> Option<usize> {
    let name_end = value[..length].rfind(is_name_character)? + 1;
    let before = &value[..name_end];
    let name = before.rsplit(not_in_name).next()?;
    let begin = name_end + given(name, &value[name_end..])?;
    let end = begin + value_length(&value[begin..]);
    (is_secret_name(name) && end > length).then_some(end)
}

/// `--token y`, and `Bearer y` wherever it stands.
fn takes_next_word(name: &str) -> bool {
    name.starts_with('-') || name.eq_ignore_ascii_case("bearer")
}

/// How long the value is at whose beginning a text stands: quoted and bare parts that touch are one,
/// as in a shell.
fn value_length(value: &str) -> usize {
    let mut length = scheme_length(value);
    loop {
        let rest = &value[length..];
        let part = match rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            Some(quote) if length == 0 || opens(rest) => quoted_length(rest, quote),
            _ => rest.find(ends_value).unwrap_or(rest.len()),
        };
        if part == 0 {
            return length;
        }
        length += part;
    }
}

/// Whether the quote at whose beginning a text stands opens another part of a word, rather than to
/// close what the whole word stands in.
fn opens(text: &str) -> bool {
    text[1..].chars().next().is_some_and(|c| !ends_value(c) || matches!(c, '"' | '\''))
}

/// The length of a part between two quotes; without the second one, all there is.
fn quoted_length(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |at| at + 2)
}

/// What stands after a bare value in a shell, in JSON, or in a query.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ';' | '&' | '|' | ')' | '}' | '"' | '\'')
}

/// A whole header, as `curl -H` takes it: of `Cookie: a=b; c=d` nothing after the name stays.
fn without_header(text: &str) -> String {
    match text.split_once(':') {
        Some((name, value)) if is_header(name, value) && is_secret_name(name) => {
            format!("{name}: {REDACTED}")
        }
        _ => text.to_owned(),
    }
}

/// Headers have a space after the colon, or a name of several words. `key:int` is none.
fn is_header(name: &str, value: &str) -> bool {
    is_name(name) && (value.starts_with(' ') || name.trim_start_matches('-').contains('-'))
}

/// The length of the `Bearer ` or `Basic ` before what it announces.
fn scheme_length(value: &str) -> usize {
    let announced = ["bearer ", "basic "].iter().find(|scheme| {
        value.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    });
    announced.map_or(0, |scheme| scheme.len())
}

/// Whether `text` can be the name of an option, variable or header: what stands before the first
/// `=` of a sentence or of a piece of code cannot.
fn is_name(text: &str) -> bool {
    let part = |c: char| is_name_character(c) || matches!(c, '+' | '/');
    !text.is_empty() && text.chars().all(part)
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn not_in_name(c: char) -> bool {
    !is_name_character(c)
}

fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    let joined = words.join("-");
    let is_harmless = HARMLESS_NAMES.iter().any(|harmless| joined.contains(harmless))
        || words.iter().any(|word| COUNTED.contains(&word.as_str()));
    !is_harmless && words.iter().any(|word| is_secret_word(word))
}

/// Words are run together in places: `PGPASSWORD`. Short ones end too many others: `monkey`.
fn is_secret_word(word: &str) -> bool {
    let ends_so = |secret: &&str| word == *secret || (secret.len() > 4 && word.ends_with(*secret));
    SECRET_WORDS.iter().any(ends_so)
}

fn is_secret_parameter(name: &str) -> bool {
    let is_signature = |word: &String| SECRET_PARAMETERS.contains(&word.as_str());
    is_secret_name(name) || words(name).iter().any(is_signature)
}

/// The words of `--someApiKey`, `AWS_SECRET_ACCESS_KEY`, `hub.api-key`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        let begins = after_lower && c.is_ascii_uppercase();
        if (begins || !c.is_ascii_alphanumeric())
            && words.last().is_some_and(|word| !word.is_empty())
        {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redacted(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        command(&arguments)
    }

    #[test]
    fn secrets_in_arguments_are_taken_out() {
        for given in [
            &["train", "--api-key=hunter2"][..],
            &["train", "--api-key", "hunter2"],
            &["train", "--apiKey=hunter2"],
            &["train", "--token", "hunter2"],
            &["train", "--hf_token=hunter2"],
            &["train", "-password", "hunter2"],
            &["train", "--db.password=hunter2"],
            &["train", "--client-secret=hunter2"],
            &["train", "--auth", "hunter2"],
            &["env", "AWS_SECRET_ACCESS_KEY=hunter2", "train"],
            &["env", "PGPASSWORD=hunter2", "train"],
            &["env", "WANDB_API_KEY=hunter2", "train"],
            &["env", "HF_TOKEN=hunter2", "train"],
            &["train", "+wandb.api_key=hunter2"],
            &["curl", "https://user:hunter2@host/x"],
            &["curl", "https://hunter2@host"],
            &["train", "--data=s3://id:hunter2@bucket/x"],
            &["curl", "https://host/x?token=hunter2&y=1"],
            &["curl", "https://host/x?X-Amz-Security-Token=hunter2"],
            &["curl", "-H", "Authorization: Bearer hunter2"],
            &["curl", "-H", "X-Api-Key: hunter2"],
            &["curl", "-H", "Cookie: hunter2"],
            &["train", "see https://a/b and https://u:hunter2@c/d"],
            &["sh", "-c", "curl -H 'Accept: x' -H 'Authorization: Bearer hunter2'"],
        ] {
            let seen = redacted(given);
            assert!(!seen.iter().any(|text| text.contains("hunter2")), "{seen:?}");
            assert!(seen.iter().any(|text| text.contains(REDACTED)), "{seen:?}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_to_the_letter() {
        for given in [
            "train.py",
            "--max-tokens=4096",
            "--num_tokens=5",
            "--tokenizer=llama",
            "--tokenizer-path=/data/tokenizer.json",
            "--pad-token-id=0",
            "--public-key=attestfs.pub",
            "--key-id=7",
            "--monkey=banana",
            "--author=somebody",
            "--keyboard=de",
            "--authority=host",
            "/data/secret-santa/train.parquet",
            "https://host/path?page=2#token",
            "https://host:8080/a@b",
            "s3://bucket/key/of/object",
            "print(1 == 2)",
            "lr=0.1",
            "a:b",
            "--columns=key:int",
            "--image-key=jpg",
            "for key in a b; do train $key; done",
            "{\"model\": \"x\", \"max_tokens\": 5}",
            "the key to it all",
            "",
            "=",
            "--",
            "-",
        ] {
            assert_eq!(redacted(&["x", given]), ["x", given]);
        }
        assert_eq!(redacted(&["x", "--max-tokens", "5"]), ["x", "--max-tokens", "5"]);
    }

    #[test]
    fn an_option_does_not_swallow_the_next_option() {
        let seen = redacted(&["train", "--no-auth", "--epochs", "3"]);
        assert_eq!(seen, ["train", "--no-auth", "--epochs", "3"]);
    }

    #[test]
    fn the_rest_of_a_url_stays() {
        let seen = redacted(&["get", "https://u:p@host:1/a?x=1&sig_token=t&y=2#f"]);
        assert_eq!(seen[1], format!("https://{REDACTED}@host:1/a?x=1&sig_token={REDACTED}&y=2#f"));
    }

    #[test]
    fn the_rest_of_a_shell_command_stays() {
        let seen = redacted(&["sh", "-c", "cd x && TOKEN=t python train.py --key 'a b' --lr 1"]);
        let expected = format!("cd x && TOKEN={REDACTED} python train.py --key {REDACTED} --lr 1");
        assert_eq!(seen[2], expected);
        let seen = redacted(&["x", r#"{"token": "t", "lr": 1}"#]);
        assert_eq!(seen[1], format!(r#"{{"token": {REDACTED}, "lr": 1}}"#));
    }

    #[test]
    fn labels_follow_the_same_rules() {
        assert_eq!(value("api_token", "x"), REDACTED);
        assert_eq!(value("dataset", "https://u:p@h/"), format!("https://{REDACTED}@h/"));
        assert_eq!(value("git", "0123abc"), "0123abc");
    }

    proptest! {
        #[test]
        fn arbitrary_arguments_never_panic(arguments: Vec<String>) {
            prop_assert_eq!(command(&arguments).len(), arguments.len());
        }

        #[test]
        fn whatever_stands_around_it_a_secret_does_not_survive(
            before in prop::collection::vec(prop::sample::select(&AROUND), 0..6),
            place in prop::sample::select(&PLACES),
            after in prop::collection::vec(prop::sample::select(&AROUND), 0..6),
        ) {
            let place = place.replace('*', "hunter2");
            let text = format!("{} {place} {}", before.concat(), after.concat());
            let seen = command(&["sh".to_owned(), text]);
            prop_assert!(!seen[1].contains("hunter2"), "{:?}", seen);
        }
    }

    /// Where a secret, the asterisk, gives itself away.
    const PLACES: [&str; 12] = [
        "TOKEN=*",
        "TOKEN=x'y *'",
        "TOKEN=\"*\"",
        "--api-key *",
        "--api-key=*",
        "--db.password '*'",
        r#"{"secret": "*"}"#,
        "{'secret':'*'}",
        "Bearer *",
        "https://user:*@host/path",
        "https://host/path?x=1&access_token=*&y=2",
        "postgres://*@host",
    ];

    /// What stands around it. Quotes that are never closed can hide anything.
    const AROUND: [&str; 16] = [
        "x",
        "é",
        " ",
        "=",
        "a=b ",
        "--lr 1 ",
        "\"r s\" ",
        "'q'",
        ": ",
        "/",
        "?",
        "& ",
        "https://h/p ",
        "token ",
        "{",
        "[redacted] ",
    ];
}

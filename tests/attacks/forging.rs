//! Changing evidence that the program made.

use std::{fs, path::Path};

use attestfs_attestation::{Bundle, Claims, Payload, SigningKey};
use serde_json::Value;

use crate::lab::Lab;

/// Has the `claims.jsonl` and the `model.sig` of a directory say something else of the same things,
/// signed by the key of this lab.
pub(crate) fn sign_again(lab: &Lab, directory: &Path, change: impl Fn(&mut Value)) {
    let key = SigningKey::from_pem(&fs::read(lab.key()).unwrap()).unwrap();
    let changed = |bundle: &Bundle| {
        let mut statement = serde_json::from_slice(bundle.payload().bytes()).unwrap();
        change(&mut statement);
        Payload::new(statement.to_string().into_bytes())
    };
    let path = directory.join("claims.jsonl");
    let mut claims = Claims::parse(&fs::read(&path).unwrap()).unwrap();
    let sign = |bundle: &Bundle| Bundle::sign_attestation(changed(bundle), &key).unwrap();
    claims.bundles = claims.bundles.iter().map(sign).collect();
    fs::write(path, claims.to_jsonl()).unwrap();
    let path = directory.join("model.sig");
    let model = Bundle::parse(&fs::read(&path).unwrap()).unwrap();
    fs::write(path, Bundle::sign_model(changed(&model), &key).unwrap().to_json()).unwrap();
}

/// Changes each bundle of a file as the JSON that it is; nobody signs it again.
pub(crate) fn edit_bundles(path: &Path, change: impl Fn(&mut Value)) {
    let text = fs::read_to_string(path).unwrap();
    let edited = text.lines().map(|line| {
        let mut bundle: Value = serde_json::from_str(line).unwrap();
        change(&mut bundle);
        format!("{bundle}\n")
    });
    let edited: String = edited.collect();
    assert_ne!(edited, text);
    fs::write(path, edited).unwrap();
}

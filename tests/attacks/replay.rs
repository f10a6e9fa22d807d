//! What was genuine once.

use std::{
    fs::{self, FileTimes},
    path::{Path, PathBuf},
};

use crate::{
    lab::Lab,
    mounted::Mounted,
    scene::{assert_holds, assert_refused, copy, serve, train, with_model},
};

const NEWER: &str = "published something newer";

/// A lab whose model was replaced by a newer one, and where the older one was kept aside.
fn replaced() -> Option<(Lab, PathBuf)> {
    let lab = with_model()?;
    let kept = lab.path("kept");
    copy(&lab, &lab.path("tree/model"), &kept);
    train(&lab, "model", &[("weights.bin", "WEIGHTS")]);
    Some((lab, kept))
}

fn put_back(lab: &Lab, kept: &Path) {
    fs::rename(lab.path("tree/model"), lab.path("newer")).unwrap();
    copy(lab, kept, &lab.path("tree/model"));
}

// Stands on `replay::newest_of` and `replay::not_replaced` (fs/attestation/src/policy/replay.rs): each
// alone refuses it.
#[test]
fn a_file_that_was_rolled_back_with_its_old_time_is_refused() {
    for level in ["stat", "rehash", "per-read"] {
        let Some((lab, kept)) = replaced() else { return };
        let mounted = serve(&lab, level);
        let weights = mounted.path.join("model/weights.bin");
        assert_holds(&weights, "WEIGHTS");
        let old = kept.join("weights.bin");
        let times = FileTimes::new().set_modified(fs::metadata(&old).unwrap().modified().unwrap());
        let stored = fs::File::options().write(true).open(lab.path("tree/model/weights.bin"));
        std::io::Write::write_all(&mut stored.as_ref().unwrap(), b"weights").unwrap();
        stored.unwrap().set_times(times).unwrap();
        assert_refused(&weights, "");
        // Nor with the claims that were made for it.
        fs::copy(kept.join("claims.jsonl"), lab.path("tree/model/claims.jsonl")).unwrap();
        fs::remove_file(lab.path("tree/model/model.sig")).unwrap();
        assert_refused(&weights, NEWER);
    }
}

// Stands on the same.
#[test]
fn an_old_publication_that_is_put_back_as_a_whole_is_refused() {
    let Some((lab, kept)) = replaced() else { return };
    put_back(&lab, &kept);
    let mounted = serve(&lab, "rehash");
    assert_refused(&mounted.path.join("model/weights.bin"), NEWER);
}

// Stands on `replay::newest_model` and `replay::not_replaced`.
#[test]
fn an_old_model_signature_that_is_put_back_with_its_files_is_refused() {
    let Some((lab, kept)) = replaced() else { return };
    put_back(&lab, &kept);
    fs::remove_file(lab.path("tree/model/claims.jsonl")).unwrap();
    let policy = "version = 1\n[signers.trainer]\nkey = \"keys/attestfs.pub\"\n[[rule]]\n\
        paths = [\"**/*.bin\"]\nlevel = \"rehash\"\nkinds = [\"model-signing\"]\n";
    fs::write(lab.path("models.toml"), policy).unwrap();
    let options = ["--read-only", "--policy", "models.toml"];
    let mounted = Mounted::new(&lab, "tree", "mnt", &options);
    assert_refused(&mounted.path.join("model/weights.bin"), NEWER);
}

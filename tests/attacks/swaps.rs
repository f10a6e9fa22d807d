//! Genuine files in places that are not theirs.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    guarded::is_refused,
    lab::{Lab, eventually},
    scene::{assert_holds, assert_refused, serve, train, with_model},
};

fn swap(lab: &Lab, one: &str, other: &str) {
    let (one, other) = (lab.path(one), lab.path(other));
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

// Stands on `Subjects::at` (fs/attestation/src/verify/subjects.rs): the name chooses the subject.
#[test]
fn two_files_that_were_swapped_in_one_directory_are_refused() {
    let Some(lab) = Lab::new() else { return };
    train(&lab, "model", &[("encoder.bin", "E"), ("decoder.bin", "D")]);
    swap(&lab, "tree/model/encoder.bin", "tree/model/decoder.bin");
    let mounted = serve(&lab, "rehash");
    assert_refused(&mounted.path.join("model/encoder.bin"), "'model/encoder.bin' was changed");
    assert_refused(&mounted.path.join("model/decoder.bin"), "'model/decoder.bin' was changed");
}

// Stands on `Case::in_its_place` (fs/attestation/src/policy/judge.rs): nothing lies beside them.
#[test]
fn two_files_of_one_name_that_were_swapped_between_two_models_are_refused() {
    let Some(lab) = Lab::new() else { return };
    for (model, weights) in [("small", "S"), ("large", "L")] {
        train(&lab, model, &[("weights.bin", weights)]);
        for evidence in ["model.sig", "claims.jsonl"] {
            fs::remove_file(lab.path("tree").join(model).join(evidence)).unwrap();
        }
    }
    let untouched = serve(&lab, "rehash");
    assert_holds(&untouched.path.join("small/weights.bin"), "S");
    drop(untouched);
    swap(&lab, "tree/small/weights.bin", "tree/large/weights.bin");
    let mounted = serve(&lab, "rehash");
    for model in ["small", "large"] {
        let weights = mounted.path.join(model).join("weights.bin");
        assert_refused(&weights, "has the content that was attested as");
    }
}

// Stands on `replay::is_newest_here` as long as the signature is there, and on `Case::in_its_place` when
// it is gone (fs/attestation/src/policy): `claims.jsonl` is not signed, anybody can append to it.
#[test]
fn a_file_of_another_model_is_refused_with_its_claims_appended_to_those_that_lie_there() {
    let Some(lab) = Lab::new() else { return };
    for (model, weights) in [("small", "S"), ("large", "L")] {
        train(&lab, model, &[("weights.bin", weights)]);
    }
    let (small, large) = (lab.path("tree/small"), lab.path("tree/large"));
    fs::copy(small.join("weights.bin"), large.join("weights.bin")).unwrap();
    let claims = [&large, &small].map(|model| fs::read(model.join("claims.jsonl")).unwrap());
    fs::write(large.join("claims.jsonl"), claims.concat()).unwrap();
    let mounted = serve(&lab, "rehash");
    let weights = mounted.path.join("large/weights.bin");
    assert_refused(&weights, "'large/weights.bin' was changed");
    assert_holds(&mounted.path.join("small/weights.bin"), "S");
    fs::remove_file(large.join("model.sig")).unwrap();
    fs::copy(small.join("claims.jsonl"), large.join("claims.jsonl")).unwrap();
    assert_refused(&weights, "has the content that was attested as");
}

// Stands on `Wanted::opened` (fs/src/gate/wanted.rs): what is verified is the descriptor that is read,
// and no name is looked up between.
#[test]
fn what_is_renamed_over_a_file_between_verification_and_open_is_never_read() {
    let Some(lab) = with_model() else { return };
    fs::write(lab.path("tree/model/evil"), "evil").unwrap();
    let mounted = serve(&lab, "rehash");
    let path = mounted.path.join("model/weights.bin");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // No longer than some ten seconds, should a test fail meanwhile.
            let mut swaps = 0..3_000_000;
            while swaps.next().is_some() && !is_over.load(Ordering::Relaxed) {
                swap(&lab, "tree/model/evil", "tree/model/weights.bin");
            }
        });
        let (mut genuine, mut refused) = (0, 0);
        eventually("both were opened", || {
            for _ in 0..200 {
                match fs::read_to_string(&path) {
                    Ok(read) if read == "weights" => genuine += 1,
                    Ok(read) => panic!("{read} was read"),
                    Err(_) => refused += 1,
                }
            }
            genuine > 0 && refused > 0
        });
        is_over.store(true, Ordering::Relaxed);
    });
    if fs::read_to_string(lab.path("tree/model/evil")).unwrap() == "weights" {
        swap(&lab, "tree/model/evil", "tree/model/weights.bin");
    }
    fs::rename(lab.path("tree/model/evil"), lab.path("tree/model/weights.bin")).unwrap();
    eventually("the kernel looks up the name again", || is_refused(&path));
}

//! File formats of machine learning, each written by its own library in one stage and read by it in another one that
//! may read only what is attested. The frameworks are large: `.ci/slow` installs them and runs their tests.

use std::path::{Path, PathBuf};

use crate::{lab::Lab, needs, relay::pass_on};

fn check(program: &str, format: &str) {
    check_by("ATTESTFS_PYTHON", program, format);
}

/// Has a program write in one process, and read in others what was written, by the Python that a variable names.
fn check_by(python: &str, program: &str, format: &str) {
    let Some(python) = needs::program_of(python) else { return };
    if !needs::programs(&["getfattr"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let (python, program) = (python.display(), example(program));
    let deed = |deed| format!("{python} {} {deed} {format} .", program.display());
    pass_on(&lab, &deed("write"), &deed("read"));
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/{name}.py"))
}

#[test]
fn an_array_of_numpy_is_read_as_it_was_saved() {
    check("formats", "npy");
}

#[test]
fn an_archive_of_numpy_is_read_as_it_was_saved() {
    check("formats", "npz");
}

#[test]
fn memory_that_numpy_maps_is_read_as_it_was_left() {
    check("formats", "memmap");
}

#[test]
fn safetensors_are_read_as_they_were_saved() {
    check("formats", "safetensors");
}

#[test]
fn an_hdf5_file_is_read_as_its_last_session_left_it() {
    check("formats", "h5py");
}

#[test]
fn a_gguf_model_is_read_as_it_was_written() {
    check("formats", "gguf");
}

#[test]
fn arrays_of_zarr_are_read_by_their_chunks() {
    check("formats", "zarr");
}

#[test]
fn tables_of_parquet_are_read_from_one_file_and_from_directories() {
    check("formats", "parquet");
}

#[test]
fn an_onnx_model_is_read_with_the_weights_beside_it() {
    check("formats", "onnx");
}

#[test]
fn shards_of_webdataset_are_read_in_their_order() {
    check("formats", "webdataset");
}

#[test]
fn the_cache_of_huggingface_hub_is_read_without_the_hub() {
    check("hub", "");
}

#[test]
#[ignore = "needs jax and orbax, which .ci/slow installs"]
fn checkpoints_of_orbax_are_restored() {
    check_by("ATTESTFS_FRAMEWORKS_PYTHON", "frameworks", "orbax");
}

#[test]
#[ignore = "needs datasets, which .ci/slow installs"]
fn tables_that_several_processes_of_datasets_made_are_read() {
    check_by("ATTESTFS_FRAMEWORKS_PYTHON", "frameworks", "datasets");
}

#[test]
#[ignore = "needs the torch of the distribution, which .ci/slow installs"]
fn what_torch_saved_is_loaded() {
    check_by("ATTESTFS_TORCH_PYTHON", "frameworks", "torch");
}

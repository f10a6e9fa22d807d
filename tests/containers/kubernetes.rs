//! The manifests of `contrib/kubernetes`: as the schemas of Kubernetes judge them, and as their
//! containers run. There is no cluster here; what a kubelet would do with them is [`crate::node`].

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    lab::{ATTESTFS, Finish, Lab, eventually},
    models::{by_file, check_gate},
    needs,
    node::Node,
};

const MANIFESTS: [&str; 4] =
    ["node.yaml", "node-workload.yaml", "sidecar-node.yaml", "sidecar-workload.yaml"];

/// The first version with native sidecars, and the newest whose schemas there are.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

/// What the schemas of that version find fault with: fields and kinds that they do not know, too.
fn faults(python: &Path, version: &str, manifest: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("manifest.yaml");
    fs::write(&file, manifest).unwrap();
    let mut validate = Command::new(python);
    validate.args(["-m", "kubernetes_validate", "--strict", "--quiet"]);
    let ended = validate.args(["--kubernetes-version", version]).arg(file).finish();
    let said = ended.stdout + &ended.stderr;
    if ended.code == Some(0) { said } else { format!("ended with {:?}: {said}", ended.code) }
}

#[test]
fn kubernetes_takes_every_manifest() {
    let Some(python) = needs::python() else { return };
    for manifest in MANIFESTS {
        for version in VERSIONS {
            assert_eq!(faults(&python, version, &read(manifest)), "", "{manifest} for {version}");
        }
    }
}

#[test]
fn kubernetes_refuses_manifests_with_mistakes() {
    let Some(python) = needs::python() else { return };
    let mistakes = [
        ("    volumeMounts:", "    volumeMount:"),
        ("mountPropagation:", "mountPropagatoin:"),
        ("privileged: true", "privileged: \"yes\""),
        ("restartPolicy: Always", "restartPolcy: Always"),
        ("  selector:\n    matchLabels:", "  labels:\n    matchLabels:"),
        ("drop: [\"ALL\"]", "drop: ALL"),
        ("kind: Pod", "kind: Pot"),
        ("name: attestfs-node\n  namespace", "name: attestfs-node\n\tnamespace"),
    ];
    for (right, wrong) in mistakes {
        let mut made = 0;
        for manifest in MANIFESTS {
            let good = read(manifest);
            let broken = good.replacen(right, wrong, 1);
            if broken != good {
                assert_ne!(faults(&python, VERSIONS[1], &broken), "", "{manifest} with {wrong}");
                made += 1;
            }
        }
        assert!(made > 0, "no manifest has {right}");
    }
}

#[test]
fn every_volume_is_mounted_and_every_mounted_volume_is_there() {
    let Some(python) = needs::python() else { return };
    for manifest in MANIFESTS {
        let resources = resources(&python, manifest);
        for resource in &resources {
            let Some(spec) = pod_spec(resource) else { continue };
            let volumes = names(&spec["volumes"]);
            let mounts = containers(spec).flat_map(|it| it["volumeMounts"].as_array().unwrap());
            let mounted: BTreeSet<_> = mounts.map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(volumes, mounted, "{manifest}");
            for volume in spec["volumes"].as_array().unwrap() {
                let Some(wanted) = volume["configMap"]["name"].as_str() else { continue };
                let is_it = |it: &&Value| {
                    it["kind"] == "ConfigMap"
                        && it["metadata"]["name"] == wanted
                        && it["metadata"]["namespace"] == resource["metadata"]["namespace"]
                };
                assert!(resources.iter().any(|it| is_it(&it)), "{manifest} has no {wanted}");
            }
        }
    }
}

#[test]
fn the_commands_of_the_manifests_are_commands_of_the_program() {
    let Some(python) = needs::python() else { return };
    let mut commands = Vec::new();
    for manifest in MANIFESTS {
        for resource in resources(&python, manifest) {
            commands.extend(pod_spec(&resource).into_iter().flat_map(containers).map(command));
        }
    }
    commands.retain(|words| words[0] == "attestfs");
    assert_eq!(commands.len(), 2);
    for words in commands {
        // What comes before it has to be right; it keeps the rest from happening.
        Command::new(ATTESTFS).args(&words[1..]).arg("--help").succeed();
    }
}

#[test]
fn the_policies_of_the_manifests_are_read_once_the_key_is_put_in() {
    let Some(python) = needs::python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    Command::new(ATTESTFS).args(["keygen", "--out"]).arg(directory.path()).succeed();
    let mut policies = 0;
    for map in MANIFESTS.iter().flat_map(|manifest| resources(&python, manifest)) {
        let Some(policy) = map["data"]["policy.toml"].as_str() else { continue };
        let check =
            || Command::new(ATTESTFS).args(["policy", "check"]).arg(path("policy")).finish();
        fs::write(path("policy"), policy).unwrap();
        fs::write(path("trainer.pub"), map["data"]["trainer.pub"].as_str().unwrap()).unwrap();
        let without = check();
        assert_ne!(without.code, Some(0), "{without:?}");
        assert!(without.stderr.contains("signers.trainer"), "{without:?}");
        fs::copy(path("attestfs.pub"), path("trainer.pub")).unwrap();
        assert_eq!(check().code, Some(0), "{:?}", check());
        policies += 1;
    }
    assert_eq!(policies, 2);
}

#[test]
fn pods_without_privileges_have_none() {
    let Some(python) = needs::python() else { return };
    for manifest in ["node-workload.yaml", "sidecar-workload.yaml"] {
        let resources = resources(&python, manifest);
        let pod = resources.iter().find(|it| it["kind"] == "Pod").unwrap();
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
        for container in containers(&pod["spec"]) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{manifest}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{manifest}");
            assert!(security["privileged"].is_null(), "{manifest}");
        }
    }
}

#[test]
fn a_mount_served_by_the_node_guards_the_models_of_a_workload() {
    let Some((lab, python)) = Lab::with_containers().zip(needs::python()) else { return };
    let node = Node::with_models(&lab);
    let workload = resources(&python, "node-workload.yaml");
    // It started before the node served, or outlived its server: no order is promised.
    let workload = node.start_idle(&workload, pod_specs(&workload)[0], "serving", "serve");

    let part = node.with_key(resources(&python, "node.yaml"));
    let server = node.start(&part, pod_specs(&part)[0], "attestfs-node", "attestfs");
    server.wait_until_started();
    check_gate(&by_file("/models/gated", &workload.serve()));

    let mount = lab.path("node/srv/models/gated");
    assert!(lab.mounts().contains(&mount));
    assert_eq!(server.terminate(), Some(0));
    assert!(!lab.mounts().contains(&mount), "it ended and left its mount");
}

#[test]
fn a_sidecar_without_privileges_guards_the_models_of_its_pod() {
    let Some((lab, python)) = Lab::with_containers().zip(needs::python()) else { return };
    let node = Node::with_models(&lab);
    let part = resources(&python, "sidecar-node.yaml");
    let _hand_over = node.start(&part, pod_specs(&part)[0], "hand-over", "hand-over");

    let pod = node.with_key(resources(&python, "sidecar-workload.yaml"));
    let spec = pod_specs(&pod)[0];
    let sidecar = node.start(&pod, spec, "serving-1", "attestfs");
    sidecar.wait_until_started();
    let workload = node.start_idle(&pod, spec, "serving-1", "serve");
    check_gate(&by_file("/models", &workload.serve()));

    let models = node.empty_directory("serving-1", "attestfs-models");
    assert!(lab.mounts().contains(&models));
    assert_eq!(sidecar.terminate(), Some(0));
    eventually("the node takes the dead mount away", || !lab.mounts().contains(&models));
}

/// The resources of a manifest.
fn resources(python: &Path, manifest: &str) -> Vec<Value> {
    let program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let file = fs::File::open(directory().join(manifest)).unwrap();
    let text = Command::new(python).args(["-c", program]).stdin(file).succeed();
    serde_json::from_str(&text).unwrap()
}

/// What a resource says of its pods, if it has some.
fn pod_spec(resource: &Value) -> Option<&Value> {
    match resource["kind"].as_str().unwrap() {
        "Pod" => Some(&resource["spec"]),
        "DaemonSet" => Some(&resource["spec"]["template"]["spec"]),
        "ConfigMap" | "Namespace" => None,
        kind => panic!("{kind} is new here"),
    }
}

fn pod_specs(resources: &[Value]) -> Vec<&Value> {
    resources.iter().filter_map(pod_spec).collect()
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let of = |field: &str| spec[field].as_array().into_iter().flatten();
    of("initContainers").chain(of("containers"))
}

fn command(container: &Value) -> Vec<String> {
    serde_json::from_value(container["command"].clone()).unwrap()
}

fn names(named: &Value) -> BTreeSet<&str> {
    named.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/kubernetes")
}

fn read(manifest: &str) -> String {
    fs::read_to_string(directory().join(manifest)).unwrap()
}

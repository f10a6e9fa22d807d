//! What a kubelet makes of a pod, as far as the manifests of `contrib/kubernetes` need it. A field
//! that is not known here fails the test.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::Value;

use crate::{
    lab::{Finish, Lab, USER, eventually},
    models::{gated, script},
    podman::{Container, RunningContainer},
};

/// A node whose paths lie below `node` of the lab.
pub(crate) struct Node<'a> {
    lab: &'a Lab,
}

/// A container of a pod.
pub(crate) struct Started<'a> {
    container: RunningContainer<'a>,
    command: Vec<String>,
    /// Says whether it has started.
    probe: Option<Vec<String>>,
}

impl<'a> Node<'a> {
    /// With `/srv/models-store`, of which one model is attested.
    pub(crate) fn with_models(lab: &'a Lab) -> Self {
        gated(lab);
        let node = Self { lab };
        lab.directory("node/srv");
        fs::rename(lab.path("store"), node.path("/srv/models-store")).unwrap();
        lab.directory("node/srv/models/gated");
        lab.directory("node/var/lib/kubelet/pods");
        node
    }

    /// The key of the lab in place of the line that users replace by theirs.
    pub(crate) fn with_key(&self, mut resources: Vec<Value>) -> Vec<Value> {
        let key = fs::read_to_string(self.lab.path("keys/attestfs.pub")).unwrap();
        let maps = resources.iter_mut().filter(|it| it["kind"] == "ConfigMap");
        let mut keys: Vec<_> = maps.filter_map(|it| it["data"].get_mut("trainer.pub")).collect();
        assert_eq!(keys.len(), 1);
        *keys[0] = key.into();
        resources
    }

    /// Starts this container of the pod with that uid, and leaves it running.
    pub(crate) fn start(
        &self,
        resources: &[Value],
        spec: &Value,
        uid: &str,
        name: &str,
    ) -> Started<'a> {
        let description = container(spec, name);
        let container = self.prepared(resources, spec, uid, description);
        let command = strings(&description["command"]);
        let probe = description["startupProbe"]["exec"].get("command").map(strings);
        Started { container: container.start(&command), command, probe }
    }

    /// Starts this container likewise, with `load.py` for what the example serves with, which is
    /// not begun before [`Started::serve`].
    pub(crate) fn start_idle(
        &self,
        resources: &[Value],
        spec: &Value,
        uid: &str,
        name: &str,
    ) -> Started<'a> {
        let description = container(spec, name);
        let container = self.prepared(resources, spec, uid, description);
        let container = container.read_only(script("load.py"), "/app/serve.py");
        let command = strings(&description["command"]);
        Started { container: container.start(["sleep", "60"]), command, probe: None }
    }

    fn prepared(
        &self,
        resources: &[Value],
        spec: &Value,
        uid: &str,
        description: &Value,
    ) -> Container<'a> {
        check_fields(description, &CONTAINER_FIELDS);
        check_fields(spec, &POD_FIELDS);
        let mut container = Container::new(self.lab).with_attestfs();
        if description["securityContext"]["privileged"] == true {
            container = container.privileged();
        } else {
            assert_eq!(spec["securityContext"]["runAsUser"], USER);
        }
        if spec["hostPID"] == true {
            container = container.option("--pid").option("host");
        }
        for mount in description["volumeMounts"].as_array().unwrap() {
            let outside = self.volume(resources, spec, uid, mount["name"].as_str().unwrap());
            let inside = mount["mountPath"].as_str().unwrap();
            let read_only = mount["readOnly"] == true;
            container = match (mount["mountPropagation"].as_str(), read_only) {
                (None, true) => container.bind(&outside, inside, "ro,rprivate"),
                (None, false) => container.bind(&outside, inside, "rprivate"),
                (Some("HostToContainer"), true) => container.read_only(outside, inside),
                (Some("HostToContainer"), false) => container.volume(outside, inside),
                (Some("Bidirectional"), false) => container.bind(&outside, inside, "rshared"),
                other => panic!("{other:?} is new here"),
            };
        }
        container
    }

    /// Where a volume of a pod lies.
    fn volume(&self, resources: &[Value], spec: &Value, uid: &str, name: &str) -> PathBuf {
        let volumes = spec["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|it| it["name"] == name).unwrap();
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            let path = self.path(path);
            assert!(path.is_dir() || volume["hostPath"]["type"] == "DirectoryOrCreate");
            fs::create_dir_all(&path).unwrap();
            return path;
        }
        if let Some(name) = volume["configMap"]["name"].as_str() {
            return self.config_map(resources, uid, name);
        }
        assert!(volume["emptyDir"].is_object(), "{volume} is new here");
        let path = self.empty_directory(uid, name);
        fs::create_dir_all(&path).unwrap();
        if !self.lab.mounts().contains(&path) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        path
    }

    fn config_map(&self, resources: &[Value], uid: &str, name: &str) -> PathBuf {
        let mut maps = resources.iter().filter(|it| it["kind"] == "ConfigMap");
        let map = maps.find(|it| it["metadata"]["name"] == name).unwrap();
        let directory = format!("node/var/lib/kubelet/config/{uid}/{name}");
        for (file, text) in map["data"].as_object().unwrap() {
            self.lab.write(&format!("{directory}/{file}"), text.as_str().unwrap());
        }
        self.lab.path(directory)
    }

    /// Where the kubelet has a volume of a pod that begins empty.
    pub(crate) fn empty_directory(&self, uid: &str, name: &str) -> PathBuf {
        let volumes = "volumes/kubernetes.io~empty-dir";
        self.path(&format!("/var/lib/kubelet/pods/{uid}/{volumes}/{name}"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.lab.path(format!("node{path}"))
    }
}

impl Started<'_> {
    /// As the kubelet does before it starts what comes next.
    pub(crate) fn wait_until_started(&self) {
        let probe = self.probe.as_deref().unwrap();
        eventually("the container has started", || {
            self.container.execute(probe).finish().code == Some(0)
        });
    }

    /// Runs the command of the manifest, in a container that was started without. Gives what it said.
    pub(crate) fn serve(&self) -> String {
        self.container.execute(&self.command).succeed()
    }

    /// As the kubelet does when the pod is deleted. Gives the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.container.signal("TERM");
        self.container.process.code()
    }
}

const POD_FIELDS: [&str; 10] = [
    "automountServiceAccountToken",
    "containers",
    "hostPID",
    "initContainers",
    "priorityClassName",
    "securityContext",
    "terminationGracePeriodSeconds",
    "tolerations",
    "updateStrategy",
    "volumes",
];

const CONTAINER_FIELDS: [&str; 9] = [
    "command",
    "image",
    "livenessProbe",
    "name",
    "resources",
    "restartPolicy",
    "securityContext",
    "startupProbe",
    "volumeMounts",
];

fn check_fields(value: &Value, known: &[&str]) {
    for field in value.as_object().unwrap().keys() {
        assert!(known.contains(&field.as_str()), "{field} is new here");
    }
}

fn container<'v>(spec: &'v Value, name: &str) -> &'v Value {
    let of = |field: &str| spec[field].as_array().into_iter().flatten();
    let mut containers = of("initContainers").chain(of("containers"));
    containers.find(|it| it["name"] == name).unwrap()
}

fn strings(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}

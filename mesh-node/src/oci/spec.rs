//! A container's `config.json` (OCI runtime specification 1.0 and 1.1).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{
    callback::{HOOK_TIMEOUT, Hooks},
    containers::{CLIENT, DNS, Labels, Member, RELEASE, SERVICE, texts},
    exec::{self, TooLarge},
};

/// The annotation with the variables that mesh has set and the values they replaced: for `exec`.
const VARIABLES: &str = "mesh.variables";
/// The annotation with the reason why the container can't have the mesh: for the hook that runs when the container is made.
pub(super) const REFUSED: &str = "mesh.refused";
/// The largest file that is read, in bytes. (Docker's have about 10 KB.)
pub(super) const MAX: u64 = 16 << 20;
/// A container's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec(Map<String, Value>);

impl Spec {
    /// Reads a configuration.
    ///
    /// # Errors
    /// If it can't be read, or isn't a JSON object.
    pub(super) fn read(from: impl io::Read) -> io::Result<Self> {
        let mut text = Vec::new();
        from.take(MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX {
            return Err(io::Error::other(format!("it is longer than {MAX} bytes")));
        }
        Ok(Self(serde_json::from_slice(&text)?))
    }

    /// Reads the configuration of a bundle.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn of(bundle: &Path) -> io::Result<Self> {
        Self::at(&bundle.join("config.json"))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Self::read(File::open(path)?)
    }

    /// Replaces the file: at any moment either the old or the new content is there, complete.
    ///
    /// # Errors
    /// If it can't be written; the old content is then unchanged.
    pub(super) fn replace(&self, path: &Path) -> io::Result<()> {
        let next = path.with_added_extension("mesh");
        match fs::remove_file(&next) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&next)?;
        let permissions = fs::metadata(path).map(|metadata| metadata.permissions());
        let written = permissions.and_then(|permissions| file.set_permissions(permissions));
        let replaced = written.and_then(|()| file.write_all(&self.to_json())).and_then(|()| fs::rename(&next, path));
        replaced.inspect_err(|_| drop(fs::remove_file(&next)))
    }

    /// Its text.
    pub(super) fn to_json(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }

    /// The annotations whose values are texts, as all should be.
    pub(super) fn annotations(&self) -> Labels {
        texts(self.0.get("annotations"))
    }

    /// The root of its file system, if the path is absolute and not relative to the bundle.
    pub(super) fn root(&self) -> Option<PathBuf> {
        let path = self.0.get("root")?.get("path")?.as_str()?;
        Some(PathBuf::from(path)).filter(|path| path.is_absolute())
    }

    /// The path of its control group.
    pub(super) fn control_group(&self) -> Option<&str> {
        self.0.get("linux")?.get("cgroupsPath")?.as_str()
    }

    /// Whether the mount at `destination` is read-only.
    pub(super) fn is_read_only(&self, destination: &str) -> bool {
        let options = self.mount_at(destination).and_then(|mount| mount.get("options")?.as_array());
        options.into_iter().flatten().any(|option| option == "ro" || option == "rro")
    }

    /// The source of the mount at `destination`.
    pub(super) fn source_of(&self, destination: &str) -> Option<PathBuf> {
        let mount = self.mount_at(destination)?;
        mount.get("source")?.as_str().map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn mount_at(&self, destination: &str) -> Option<&Value> {
        let mounts = self.0.get("mounts")?.as_array()?;
        // The last one hides the others.
        mounts.iter().rfind(|mount| mount.get("destination").is_some_and(|at| at == destination))
    }

    /// Checks that the first process can start with these variables, and returns them.
    ///
    /// # Errors
    /// If the kernel would refuse: the runtime would only report that an argument list is too long.
    pub(super) fn takes(&self, variables: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, TooLarge> {
        let texts = |key| {
            let list = self.0.get("process").and_then(|process| process.get(key)).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str)
        };
        let theirs = texts("args").chain(texts("env")).map(str::len);
        exec::fits("the container's program", theirs, &variables, self.stack())?;
        Ok(variables)
    }

    /// The limit of the first process's stack in bytes, if the container sets one.
    fn stack(&self) -> Option<u64> {
        let limits = self.0.get("process")?.get("rlimits")?.as_array()?;
        limits.iter().find(|limit| limit.get("type").is_some_and(|kind| kind == "RLIMIT_STACK"))?.get("soft")?.as_u64()
    }

    /// Makes the container one of `member`: sets these variables, replacing others of the same names, and adds the hooks. Idempotent.
    pub(super) fn adopt(&mut self, member: &Member, variables: &BTreeMap<String, String>, hooks: &Hooks) {
        let mut before = self.set_variables(variables);
        let annotations = object(self.0.entry("annotations"));
        // After a second call the values before the first one count.
        if let Some(earlier) = annotations.get(VARIABLES).and_then(recorded) {
            before.extend(earlier.into_iter().filter(|(name, _)| variables.contains_key(name)));
        }
        annotations.insert(SERVICE.into(), member.service.to_string().into());
        annotations.insert(CLIENT.into(), member.client.to_string().into());
        match &member.release {
            Some(release) => annotations.insert(RELEASE.into(), release.to_string().into()),
            None => annotations.remove(RELEASE),
        };
        match member.dns {
            Some(dns) => annotations.insert(DNS.into(), dns.to_string().into()),
            None => annotations.remove(DNS),
        };
        annotations.insert(VARIABLES.into(), json!(before).to_string().into());
        annotations.remove(REFUSED);
        self.call(hooks, &["createRuntime", "poststop"]);
    }

    /// Makes the container one that doesn't start; the hook reports the reason.
    pub(super) fn refuse(&mut self, why: &str, hooks: &Hooks) {
        object(self.0.entry("annotations")).insert(REFUSED.into(), why.into());
        self.call(hooks, &["createRuntime"]);
    }

    /// Adds the hooks of these stages, once each.
    fn call(&mut self, hooks: &Hooks, stages: &[&str]) {
        let all = object(self.0.entry("hooks"));
        for stage in stages.iter().copied() {
            let arguments = ["mesh-node", "hook", stage, "--state"].map(Value::from);
            let arguments = arguments.into_iter().chain([hooks.state.to_string_lossy().into()]);
            let hook = json!({
                "path": hooks.program.to_string_lossy(),
                "args": arguments.collect::<Vec<Value>>(),
                "timeout": HOOK_TIMEOUT,
            });
            let of_stage = array(all.entry(stage));
            of_stage.retain(|there| there.get("args") != hook.get("args"));
            of_stage.push(hook);
        }
    }

    /// The environment of the first process, as `NAME=VALUE`.
    pub(super) fn environment(&self) -> impl Iterator<Item = &str> {
        let all = self.0.get("process").and_then(|process| process.get("env")).and_then(Value::as_array);
        all.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Sets variables of the first process. Returns the values they replace.
    fn set_variables(&mut self, variables: &BTreeMap<String, String>) -> BTreeMap<String, Option<String>> {
        let environment = array(object(self.0.entry("process")).entry("env"));
        variables.iter().map(|(name, value)| (name.clone(), set(environment, name, value))).collect()
    }

    /// What a further process of this container gets: our variables, as the first one has them. One that was given
    /// another value for this process alone keeps it.
    pub(super) fn share_variables(&self, process: &mut Self) {
        let annotations = self.0.get("annotations").filter(|annotations| annotations.get(SERVICE).is_some());
        let before = annotations.and_then(|annotations| annotations.get(VARIABLES)).and_then(recorded);
        let own = self.0.get("process").and_then(|process| process.get("env")).and_then(Value::as_array);
        let (Some(before), Some(own)) = (before, own) else { return };
        let environment = array(process.0.entry("env"));
        for (name, before) in before {
            let (Some(value), given) = (get(own, &name), get(environment, &name)) else { continue };
            if given.is_none() || given == before.as_deref() {
                let value = value.to_owned();
                set(environment, &name, &value);
            }
        }
    }
}

fn recorded(annotation: &Value) -> Option<BTreeMap<String, Option<String>>> {
    serde_json::from_str(annotation.as_str()?).ok()
}

fn get<'a>(environment: &'a [Value], name: &str) -> Option<&'a str> {
    environment.iter().rev().find_map(|entry| entry.as_str()?.strip_prefix(name)?.strip_prefix('='))
}

/// Sets a variable, once. Returns its previous value.
fn set(environment: &mut Vec<Value>, name: &str, value: &str) -> Option<String> {
    let before = get(environment, name).map(str::to_owned);
    let is_it = |entry: &Value| entry.as_str().and_then(|text| text.strip_prefix(name)?.strip_prefix('=')).is_some();
    environment.retain(|entry| !is_it(entry));
    environment.push(format!("{name}={value}").into());
    before
}

/// The entry's object; any other value is replaced by an empty one.
fn object(entry: serde_json::map::Entry<'_>) -> &mut Map<String, Value> {
    let value = entry.or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it has just been made one"),
    }
}

/// The entry's array; any other value is replaced by an empty one.
fn array(entry: serde_json::map::Entry<'_>) -> &mut Vec<Value> {
    let value = entry.or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it has just been made one"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::state::tests::Scratch;

    fn spec(value: Value) -> Spec {
        Spec::read(value.to_string().as_bytes()).unwrap()
    }

    fn member() -> Member {
        Member { release: "v1".parse().ok(), ..Member::of("shop/db".parse().unwrap()) }
    }

    fn hooks() -> Hooks {
        Hooks { program: "/usr/bin/mesh-node".into(), state: "/var/lib/mesh-node".into() }
    }

    fn variables() -> BTreeMap<String, String> {
        [("PORT", "5432"), ("WARP_IST_my-db", "100.112.0.2")].map(|(n, v)| (n.to_owned(), v.to_owned())).into()
    }

    fn docker() -> Spec {
        spec(json!({
            "ociVersion": "1.0.2-dev",
            "process": {"env": ["PATH=/bin", "PORT=3000", "PORTAL=x"], "oomScoreAdj": -500},
            "hooks": {"prestart": [{"path": "/proc/17/exe"}]},
            "linux": {"resources": {"memory": {"limit": u64::MAX}}},
        }))
    }

    #[test]
    fn variables_hooks_and_annotations_go_in_and_all_else_stays() {
        let mut adopted = docker();
        adopted.adopt(&member(), &variables(), &hooks());
        let Spec(all) = &adopted;
        assert_eq!(all["process"]["env"], json!(["PATH=/bin", "PORTAL=x", "PORT=5432", "WARP_IST_my-db=100.112.0.2"]));
        assert_eq!(all["process"]["oomScoreAdj"], -500);
        assert_eq!(all["hooks"]["prestart"], json!([{"path": "/proc/17/exe"}]));
        assert_eq!(
            all["hooks"]["createRuntime"],
            json!([{"path": "/usr/bin/mesh-node", "timeout": HOOK_TIMEOUT,
                "args": ["mesh-node", "hook", "createRuntime", "--state", "/var/lib/mesh-node"]}])
        );
        assert_eq!(all["hooks"]["poststop"][0]["args"][2], "poststop");
        assert_eq!(all["linux"]["resources"]["memory"]["limit"], u64::MAX, "the number as it was");
        assert_eq!([SERVICE, RELEASE].map(|name| adopted.annotations()[name].clone()), ["shop/db", "v1"]);
        let once = adopted.clone();
        adopted.adopt(&member(), &variables(), &hooks());
        assert_eq!(adopted, once, "the wrapper and a hook, or a bundle that is used again");
    }

    #[test]
    fn only_the_hook_of_mesh_reports_a_refusal() {
        let mut refused = docker();
        refused.refuse("there is no such service", &hooks());
        assert_eq!(refused.annotations()[REFUSED], "there is no such service");
        assert_eq!(refused.0["hooks"]["createRuntime"][0]["args"][2], "createRuntime");
        assert!(refused.0["hooks"].get("poststop").is_none() && !refused.annotations().contains_key(SERVICE));
        refused.adopt(&member(), &variables(), &hooks());
        assert!(!refused.annotations().contains_key(REFUSED), "what stood in the way does so no longer");
        assert_eq!(refused.0["hooks"]["createRuntime"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn another_process_gets_the_variables_of_the_first_one() {
        let mut adopted = docker();
        adopted.adopt(&member(), &variables(), &hooks());
        let exec = |environment: Value| {
            let mut process = spec(json!({"args": ["sh"], "env": environment}));
            adopted.share_variables(&mut process);
            process.0["env"].clone()
        };
        // As Docker has it: the image's and the container's own, from before we came.
        assert_eq!(
            exec(json!(["PATH=/bin", "PORT=3000"])),
            json!(["PATH=/bin", "PORT=5432", "WARP_IST_my-db=100.112.0.2"])
        );
        assert_eq!(
            exec(json!(["PORT=9999"])),
            json!(["PORT=9999", "WARP_IST_my-db=100.112.0.2"]),
            "set for this process alone"
        );
        let mut process = spec(json!({"env": ["A=b"]}));
        let before = process.clone();
        docker().share_variables(&mut process);
        assert_eq!(process, before, "the container is no member");
    }

    #[test]
    fn too_many_variables_are_refused_before_the_runtime_refuses_them() {
        let many =
            |count: usize| (0..count).map(|n| (format!("WARP_IST_{n:0100}"), "100.112.0.2".to_owned())).collect();
        let refusal = docker().takes(many(60_000)).unwrap_err();
        assert!(refusal.to_string().contains("60000 variables of the mesh"), "{refusal}");
        assert_eq!(docker().takes(many(1000)).unwrap().len(), 1000);
        let rlimits = json!([{"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 20}]);
        let small = spec(json!({"process": {"env": [], "rlimits": rlimits}}));
        assert!(small.takes(many(3000)).is_err(), "a quarter of its own stack");
    }

    #[test]
    fn nonsense_is_no_panic() {
        for value in [json!({}), json!({"process": 1, "hooks": [], "annotations": "x", "mounts": {}})] {
            let mut odd = spec(value);
            assert!(odd.annotations().is_empty() && odd.source_of("/etc/hosts").is_none());
            odd.adopt(&member(), &variables(), &hooks());
            assert_eq!(odd.0["process"]["env"].as_array().map(Vec::len), Some(2));
        }
        assert!(Spec::read(&b"[]"[..]).is_err() && Spec::read(&b"{"[..]).is_err());
        assert!(Spec::read(io::repeat(b' ')).unwrap_err().to_string().contains("longer than"));
    }

    #[test]
    fn the_hosts_file_is_what_is_mounted_there_last() {
        let mounts = json!({"mounts": [
            {"destination": "/etc/hosts", "source": "/a"}, {"destination": "/etc/hosts", "source": "/b"},
            {"destination": "/proc", "source": "proc"},
        ]});
        assert_eq!(spec(mounts.clone()).source_of("/etc/hosts"), Some("/b".into()));
        assert!(!spec(mounts.clone()).is_read_only("/etc/hosts"));
        let shadow =
            json!({"mounts": [{"destination": "/etc/hosts", "source": "/etc/shadow", "options": ["rbind", "ro"]}]});
        assert!(spec(shadow).is_read_only("/etc/hosts"));
        assert_eq!(spec(mounts).source_of("/proc"), None);
    }

    #[test]
    fn it_is_replaced_whole_and_keeps_its_mode() {
        let scratch = Scratch::new("bundle");
        let path = scratch.0.join("config.json");
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        docker().replace(&path).unwrap();
        assert_eq!(Spec::of(&scratch.0).unwrap(), docker());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    }
}

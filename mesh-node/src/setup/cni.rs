//! CNI: mesh's plugin as the last one of a network's list, and a link to it in the plugins' directory. The list belongs to another
//! program, so the rest of it stays, to the byte.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use mesh_process::edit::{Edit, EditError};
use mesh_proto::ServicePath;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    Caller, Plan, SetupError,
    error::ListsError,
    json::{indent, place},
};

/// The directory of networks.
const NETWORKS: &str = "/etc/cni/net.d";
/// The directories of plugins: upstream's, Debian's, others'.
const PLUGINS: [&str; 4] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni"];
/// The plugin's name.
const NAME: &str = "mesh";
/// The target of the link.
const PROGRAM: &str = "mesh-node";

/// The relevant fields of a network's list. The borrowed parts show their position in the text.
#[derive(Debug, Deserialize)]
struct List<'a> {
    name: String,
    #[serde(borrow)]
    plugins: Vec<&'a RawValue>,
}

pub(super) fn set_up(
    caller: &Caller,
    network: Option<&str>,
    service: Option<&ServicePath>,
) -> Result<Plan, SetupError> {
    let Networks { lists, damaged } = networks()?;
    let path = one_of(&lists, network).map_err(|error| {
        let damaged = damaged.iter().map(|list| list.why.to_string()).collect();
        SetupError::Lists { error, damaged }
    })?;
    let mut first = String::new();
    let list = Edit::of(&path, |before| {
        let text = before.unwrap_or_default();
        first = first_plugin(text, &path)?;
        enter(text, &path, &plugin(caller, service)).map(Some)
    })?;
    let directories: Vec<&str> =
        PLUGINS.into_iter().filter(|directory| Path::new(directory).join(&first).exists()).collect();
    if directories.is_empty() {
        let entry = plugin(caller, service).to_string();
        return Err(SetupError::NoPlugins { first, directories: PLUGINS.join(", "), entry });
    }
    let links = directories.into_iter().map(|directory| {
        Edit::of_link(Path::new(directory).join(NAME), |before| match before {
            Some(other) if other.file_name() != Some(OsStr::new(PROGRAM)) => {
                Err(SetupError::ForeignLink { path: Path::new(directory).join(NAME), target: other.to_owned() })
            }
            _ => Ok(Some(caller.program.clone())),
        })
    });
    // The links first: the list needs them.
    let edits = links.chain([Ok(list)]).collect::<Result<_, _>>()?;
    let then = match service {
        Some(_) => "no restart is needed; containers in the network are instances from their next start on",
        None => {
            "no restart is needed. Without --service a pod's annotation mesh.service names its service, for the deployments that the configuration lists under [containers.sources] pods"
        }
    };
    Ok(Plan { edits, notes: vec![], then })
}

pub(super) fn undo(caller: &Caller, network: Option<&str>) -> Result<Plan, SetupError> {
    let Networks { lists, damaged } = networks()?;
    if network.is_some() {
        one_of(&lists, network).map_err(|error| SetupError::Lists { error, damaged: vec![] })?;
    }
    // An unreadable list may still need the link, and must not prevent changes of the others.
    let mut elsewhere = damaged.iter().any(|list| list.may_name_us);
    let mut notes: Vec<_> = damaged.into_iter().map(|list| format!("{}: it stays unchanged", list.why)).collect();
    let mut edits = vec![];
    for (path, name) in lists {
        let out = network.is_none_or(|network| network == name);
        let edit = Edit::of(&path, |before| {
            let text = before.unwrap_or_default();
            if out {
                return leave(text, &path).map(Some);
            }
            elsewhere |= is_entered(text);
            Ok(before.map(str::to_owned))
        });
        match edit {
            Ok(edit) => edits.push(edit),
            Err(why) => {
                elsewhere = true;
                notes.push(format!("{why}: it stays unchanged"));
            }
        }
    }
    // The lists of other networks may still need the links.
    for directory in PLUGINS.iter().filter(|_| !elsewhere) {
        let path = Path::new(directory).join(NAME);
        let ours = |to: &Path| to == caller.program || to.file_name() == Some(OsStr::new(PROGRAM));
        if fs::read_link(&path).is_ok_and(|to| ours(&to)) {
            edits.push(Edit::of_link::<SetupError>(path, |_| Ok(None))?);
        }
    }
    Ok(Plan { edits, notes, then: "no restart is needed; attached containers stay attached until they end" })
}

/// The lists of networks.
struct Networks {
    /// With the names of their networks, in the order of runtimes.
    lists: Vec<(PathBuf, String)>,
    /// Those that can't be read, which runtimes skip too.
    damaged: Vec<Damaged>,
}

/// A list that can't be read.
struct Damaged {
    why: SetupError,
    /// Whether mesh's plugin may be in it.
    may_name_us: bool,
}

fn networks() -> Result<Networks, SetupError> {
    let mut paths = vec![];
    match fs::read_dir(NETWORKS) {
        Ok(entries) => paths.extend(entries.flatten().map(|entry| entry.path())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(EditError::Read { path: NETWORKS.into(), error }.into()),
    }
    paths.retain(|path| path.extension() == Some(OsStr::new("conflist")));
    paths.sort();
    let mut networks = Networks { lists: vec![], damaged: vec![] };
    for path in paths {
        let (why, may_name_us) = match fs::read_to_string(&path) {
            Err(error) => (EditError::Read { path, error }.into(), true),
            Ok(text) => match parse(&text, &path).map(|list| list.name) {
                Ok(name) => {
                    networks.lists.push((path, name));
                    continue;
                }
                Err(why) => (why, text.contains(&format!("\"{NAME}\""))),
            },
        };
        networks.damaged.push(Damaged { why, may_name_us });
    }
    Ok(networks)
}

fn one_of(networks: &[(PathBuf, String)], wanted: Option<&str>) -> Result<PathBuf, ListsError> {
    let fit: Vec<_> = networks.iter().filter(|(_, name)| wanted.is_none_or(|wanted| wanted == name)).collect();
    let names = || networks.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
    match (fit.as_slice(), wanted) {
        ([(path, _)], _) => Ok(path.clone()),
        ([], None) => Err(ListsError::None(NETWORKS)),
        ([], Some(wanted)) => {
            Err(ListsError::Unknown { wanted: wanted.to_owned(), directory: NETWORKS, names: names() })
        }
        (_, None) => Err(ListsError::Several { directory: NETWORKS, names: names() }),
        (_, Some(wanted)) => Err(ListsError::Duplicate { wanted: wanted.to_owned(), directory: NETWORKS }),
    }
}

fn plugin(caller: &Caller, service: Option<&ServicePath>) -> Value {
    let mut plugin = json!({"type": NAME, "capabilities": {"io.kubernetes.cri.pod-annotations": true}});
    if let Some(service) = service {
        plugin["service"] = service.to_string().into();
    }
    if let Some(state) = &caller.state {
        plugin["state"] = state.to_string_lossy().into();
    }
    plugin
}

fn parse<'a>(text: &'a str, path: &Path) -> Result<List<'a>, SetupError> {
    serde_json::from_str(text).map_err(|error| SetupError::List { path: path.to_owned(), error })
}

fn first_plugin(text: &str, path: &Path) -> Result<String, SetupError> {
    let first = parse(text, path)?.plugins.first().and_then(|plugin| kind(plugin));
    let is_other = |kind: &String| kind != NAME && !kind.contains('/');
    first.filter(is_other).ok_or_else(|| SetupError::NoInterface { path: path.to_owned() })
}

fn kind(plugin: &RawValue) -> Option<String> {
    serde_json::from_str::<Value>(plugin.get()).ok()?.get("type")?.as_str().map(str::to_owned)
}

fn is_ours(plugin: &RawValue) -> bool {
    kind(plugin).is_some_and(|kind| kind == NAME)
}

fn is_entered(text: &str) -> bool {
    serde_json::from_str::<List<'_>>(text).is_ok_and(|list| list.plugins.iter().any(|plugin| is_ours(plugin)))
}

/// The list with mesh's plugin as the last one.
fn enter(text: &str, path: &Path, plugin: &Value) -> Result<String, SetupError> {
    let list = parse(text, path)?;
    if let Some(there) = list.plugins.iter().find(|plugin| is_ours(plugin)) {
        return match serde_json::from_str::<Value>(there.get()).is_ok_and(|there| there == *plugin) {
            true => Ok(text.to_owned()),
            false => {
                let (path, there) = (path.to_owned(), there.to_string());
                Err(SetupError::OtherSettings { path, there, network: list.name })
            }
        };
    }
    let last = list.plugins.last().map(|last| place(text, last)).unwrap_or_default();
    let (before, after) = text.split_at(last.end);
    Ok(format!("{before},{}{plugin}{after}", indent(text, last.start)))
}

/// The list without mesh's plugin.
fn leave(text: &str, path: &Path) -> Result<String, SetupError> {
    let list = parse(text, path)?;
    let Some(at) = list.plugins.iter().position(|plugin| is_ours(plugin)) else { return Ok(text.to_owned()) };
    let places: Vec<_> = list.plugins.iter().map(|plugin| place(text, plugin)).collect();
    let before = at.checked_sub(1).and_then(|before| places.get(before));
    match (before, places.get(at)) {
        (Some(before), Some(ours)) => {
            let kept = |range| text.get(range).unwrap_or_default();
            leave(&format!("{}{}", kept(0..before.end), kept(ours.end..text.len())), path)
        }
        _ => Err(SetupError::First { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::Hint as _;

    const FILE: &str = "/etc/cni/net.d/10-shop.conflist";

    fn ours(service: Option<&str>) -> Value {
        let service = service.map(|service| service.parse().unwrap());
        plugin(&Caller { program: "/usr/bin/mesh-node".into(), state: None }, service.as_ref())
    }

    #[test]
    fn it_comes_last_and_goes_and_all_else_stays_to_the_byte() {
        for before in [
            "{\"name\": \"shop\", \"plugins\": [{\"type\": \"bridge\"}]}",
            "{\n  \"name\": \"shop\",\n  \"plugins\": [\n    { \"type\":\"bridge\", \"z\":1, \"a\":2 },\n    {\n      \"type\": \"portmap\"\n    }\n  ], \"disableCheck\": true\n}\n",
        ] {
            let path = Path::new(FILE);
            let after = enter(before, path, &ours(Some("shop/db"))).unwrap();
            let value: Value = serde_json::from_str(&after).unwrap();
            let last = value["plugins"].as_array().unwrap().last().unwrap();
            assert_eq!((&last["type"], &last["service"]), (&json!("mesh"), &json!("shop/db")));
            assert_eq!(enter(&after, path, &ours(Some("shop/db"))).unwrap(), after, "once more changes nothing");
            assert_eq!(after.lines().count(), before.lines().count() + usize::from(before.contains('\n')), "{after}");
            assert_eq!(leave(&after, path).unwrap(), before);
            assert_eq!(leave(before, path).unwrap(), before);
            let other = enter(&after, path, &ours(None)).unwrap_err();
            assert!(other.to_string().contains("other settings") && other.hint().unwrap().ends_with("--network shop"));
        }
    }

    #[test]
    fn a_text_that_is_no_list_of_plugins_is_refused() {
        let path = Path::new(FILE);
        for text in ["", "{", "{\"type\": \"bridge\", \"name\": \"x\"}", "{\"name\": \"x\", \"plugins\": 1}"] {
            assert!(
                enter(text, path, &ours(None)).unwrap_err().to_string().contains("10-shop.conflist is not the list")
            );
        }
        for text in ["{\"name\": \"x\", \"plugins\": []}", "{\"name\": \"x\", \"plugins\": [{\"type\": \"../sh\"}]}"] {
            assert!(first_plugin(text, path).is_err());
        }
        assert!(leave("{\"name\": \"x\", \"plugins\": [{\"type\": \"mesh\"}]}", path).is_err());
        let twice = "{\"name\": \"x\", \"plugins\": [{\"type\": \"a\"}, {\"type\": \"mesh\"}, {\"type\": \"mesh\"}]}";
        assert_eq!(leave(twice, path).unwrap(), "{\"name\": \"x\", \"plugins\": [{\"type\": \"a\"}]}");
    }

    #[test]
    fn a_network_must_be_named_if_there_are_several() {
        let networks: Vec<_> = ["shop", "podman"].map(|name| (PathBuf::from(name), name.to_owned())).into();
        assert_eq!(one_of(&networks, Some("podman")).unwrap(), Path::new("podman"));
        assert_eq!(one_of(&networks[..1], None).unwrap(), Path::new("shop"));
        for (networks, wanted, words) in [
            (&networks[..], None, "more than one network in /etc/cni/net.d: shop, podman"),
            (&networks[..0], None, "no network"),
            (&networks[..], Some("web"), "no list for a network web"),
        ] {
            let error = one_of(networks, wanted).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

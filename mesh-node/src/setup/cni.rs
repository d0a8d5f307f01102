//! CNI: our plugin as the last of a network's list, and a link to it among the plugins. The list is somebody else's, so what is
//! not ours of it stays as it is to the octet.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use mesh_proto::{ServicePath, message::Refusal};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    Edit, Ourselves, Plan,
    edit::unreadable,
    json::{indent, place},
};

/// Where runtimes look for networks.
const NETWORKS: &str = "/etc/cni/net.d";
/// Where they look for plugins: as upstream has it, Debian, others.
const PLUGINS: [&str; 4] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni"];
/// What our plugin is called.
const NAME: &str = "mesh";
/// What it leads to.
const PROGRAM: &str = "mesh-node";

/// A network's list, as far as it concerns us. What it borrows says where in the text it stands.
#[derive(Debug, Deserialize)]
struct List<'a> {
    name: String,
    #[serde(borrow)]
    plugins: Vec<&'a RawValue>,
}

pub(super) fn set_up(
    ourselves: &Ourselves,
    network: Option<&str>,
    service: Option<&ServicePath>,
) -> Result<Plan, Refusal> {
    let Networks { lists, damaged } = networks()?;
    let path = one_of(&lists, network).map_err(|refusal| match damaged.as_slice() {
        [] => refusal,
        damaged => {
            let passed_over: Vec<_> = damaged.iter().map(|list| list.why.error.as_str()).collect();
            Refusal { error: format!("{}; passed over: {}", refusal.error, passed_over.join("; ")), ..refusal }
        }
    })?;
    let mut first = String::new();
    let list = Edit::of(&path, |before| {
        let text = before.unwrap_or_default();
        first = first_plugin(text, &path)?;
        enter(text, &path, &plugin(ourselves, service)).map(Some)
    })?;
    let directories: Vec<&str> =
        PLUGINS.into_iter().filter(|directory| Path::new(directory).join(&first).exists()).collect();
    if directories.is_empty() {
        return Err(Refusal::new(
            format!("the network's plugin {first} is in none of {}", PLUGINS.join(", ")),
            format!(
                "make the list end in {} yourself, and a link {NAME} to {PROGRAM} beside {first}",
                plugin(ourselves, service)
            ),
        ));
    }
    let links = directories.into_iter().map(|directory| {
        Edit::of_link(Path::new(directory).join(NAME), |before| match before {
            Some(other) if other.file_name() != Some(OsStr::new(PROGRAM)) => Err(Refusal::new(
                format!("{directory}/{NAME} is there already, and leads to {}", other.display()),
                "rename it, or take it out",
            )),
            _ => Ok(Some(ourselves.program.clone())),
        })
    });
    // First what the list needs.
    let edits = links.chain([Ok(list)]).collect::<Result<_, _>>()?;
    let then = match service {
        Some(_) => "nothing has to be restarted; what is in the network from its next start on is an instance",
        None => {
            "nothing has to be restarted. Without --service a pod's annotation mesh.service says what it is, for the deployments that the configuration lists under [containers.sources] pods"
        }
    };
    Ok(Plan { edits, notes: vec![], then })
}

pub(super) fn undo(ourselves: &Ourselves, network: Option<&str>) -> Result<Plan, Refusal> {
    let Networks { lists, damaged } = networks()?;
    if network.is_some() {
        one_of(&lists, network)?;
    }
    // What can't be read may need our link still, and must not keep us in what can.
    let mut elsewhere = damaged.iter().any(|list| list.may_name_us);
    let mut notes: Vec<_> = damaged.into_iter().map(|list| format!("{}: it stays as it is", list.why.error)).collect();
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
                notes.push(format!("{}: it stays as it is", why.error));
            }
        }
    }
    // Other networks' lists may need it still.
    for directory in PLUGINS.iter().filter(|_| !elsewhere) {
        let path = Path::new(directory).join(NAME);
        let ours = |to: &Path| to == ourselves.program || to.file_name() == Some(OsStr::new(PROGRAM));
        if fs::read_link(&path).is_ok_and(|to| ours(&to)) {
            edits.push(Edit::of_link(path, |_| Ok(None))?);
        }
    }
    Ok(Plan { edits, notes, then: "nothing has to be restarted; what is attached stays so until it ends" })
}

/// The lists that there are.
struct Networks {
    /// With the names of their networks, in the runtimes' own order.
    lists: Vec<(PathBuf, String)>,
    /// Those that a runtime passes over as well.
    damaged: Vec<Damaged>,
}

/// A list that can't be read.
struct Damaged {
    why: Refusal,
    /// Whether our plugin may be in it.
    may_name_us: bool,
}

fn networks() -> Result<Networks, Refusal> {
    let mut paths = vec![];
    match fs::read_dir(NETWORKS) {
        Ok(entries) => paths.extend(entries.flatten().map(|entry| entry.path())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(unreadable(Path::new(NETWORKS), &e)),
    }
    paths.retain(|path| path.extension() == Some(OsStr::new("conflist")));
    paths.sort();
    let mut networks = Networks { lists: vec![], damaged: vec![] };
    for path in paths {
        let (why, may_name_us) = match fs::read_to_string(&path) {
            Err(e) => (unreadable(&path, &e), true),
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

fn one_of(networks: &[(PathBuf, String)], wanted: Option<&str>) -> Result<PathBuf, Refusal> {
    let fit: Vec<_> = networks.iter().filter(|(_, name)| wanted.is_none_or(|wanted| wanted == name)).collect();
    let names = || networks.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
    match (fit.as_slice(), wanted) {
        ([(path, _)], _) => Ok(path.clone()),
        ([], None) => Err(Refusal::new(
            format!("there is no network in {NETWORKS}"),
            "set the runtime's own network up first, as a list: NAME.conflist. Our plugin comes behind its plugins",
        )),
        ([], Some(wanted)) => Err(Refusal::new(
            format!("there is no list for a network {wanted} in {NETWORKS}"),
            format!("those there are: {}", names()),
        )),
        (_, None) => Err(Refusal::new(
            format!("there is more than one network in {NETWORKS}: {}", names()),
            "say which: --network NAME",
        )),
        (_, Some(wanted)) => {
            Err(Refusal::new(format!("more than one list in {NETWORKS} is for the network {wanted}"), "rename one"))
        }
    }
}

fn plugin(ourselves: &Ourselves, service: Option<&ServicePath>) -> Value {
    let mut plugin = json!({"type": NAME, "capabilities": {"io.kubernetes.cri.pod-annotations": true}});
    if let Some(service) = service {
        plugin["service"] = service.to_string().into();
    }
    if let Some(state) = &ourselves.state {
        plugin["state"] = state.to_string_lossy().into();
    }
    plugin
}

fn parse<'a>(text: &'a str, path: &Path) -> Result<List<'a>, Refusal> {
    serde_json::from_str(text).map_err(|e| {
        Refusal::new(format!("{} is not the list of a network: {e}", path.display()), "put it right first")
    })
}

fn first_plugin(text: &str, path: &Path) -> Result<String, Refusal> {
    let first = parse(text, path)?.plugins.first().and_then(|plugin| kind(plugin));
    first.filter(|kind| kind != NAME && !kind.contains('/')).ok_or_else(|| {
        Refusal::new(
            format!("{} has no plugin that makes an interface", path.display()),
            "our plugin comes behind others: put these there first",
        )
    })
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

/// The list with our plugin as its last.
fn enter(text: &str, path: &Path, plugin: &Value) -> Result<String, Refusal> {
    let list = parse(text, path)?;
    if let Some(there) = list.plugins.iter().find(|plugin| is_ours(plugin)) {
        return match serde_json::from_str::<Value>(there.get()).is_ok_and(|there| there == *plugin) {
            true => Ok(text.to_owned()),
            false => Err(Refusal::new(
                format!("{} has our plugin already, with other settings: {there}", path.display()),
                format!("change it there, or take it out first: mesh-node setup cni --undo --network {}", list.name),
            )),
        };
    }
    let last = list.plugins.last().map(|last| place(text, last)).unwrap_or_default();
    let (before, after) = text.split_at(last.end);
    Ok(format!("{before},{}{plugin}{after}", indent(text, last.start)))
}

/// The list without it, however many times it stands there.
fn leave(text: &str, path: &Path) -> Result<String, Refusal> {
    let list = parse(text, path)?;
    let Some(at) = list.plugins.iter().position(|plugin| is_ours(plugin)) else { return Ok(text.to_owned()) };
    let places: Vec<_> = list.plugins.iter().map(|plugin| place(text, plugin)).collect();
    let before = at.checked_sub(1).and_then(|before| places.get(before));
    match (before, places.get(at)) {
        (Some(before), Some(ours)) => {
            let kept = |range| text.get(range).unwrap_or_default();
            leave(&format!("{}{}", kept(0..before.end), kept(ours.end..text.len())), path)
        }
        _ => Err(Refusal::new(
            format!("our plugin is the first one in {}, where it does nothing", path.display()),
            "take it out there, or the file away",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/cni/net.d/10-shop.conflist";

    fn ours(service: Option<&str>) -> Value {
        let service = service.map(|service| service.parse().unwrap());
        plugin(&Ourselves { program: "/usr/bin/mesh-node".into(), state: None }, service.as_ref())
    }

    #[test]
    fn it_comes_last_and_goes_and_all_else_stays_to_the_octet() {
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
            assert!(other.error.contains("other settings") && other.hint.unwrap().ends_with("--network shop"));
        }
    }

    #[test]
    fn what_is_no_list_or_has_no_other_plugin_is_refused() {
        let path = Path::new(FILE);
        for text in ["", "{", "{\"type\": \"bridge\", \"name\": \"x\"}", "{\"name\": \"x\", \"plugins\": 1}"] {
            assert!(enter(text, path, &ours(None)).unwrap_err().error.contains("10-shop.conflist is not the list"));
        }
        for text in ["{\"name\": \"x\", \"plugins\": []}", "{\"name\": \"x\", \"plugins\": [{\"type\": \"../sh\"}]}"] {
            assert!(first_plugin(text, path).is_err());
        }
        assert!(leave("{\"name\": \"x\", \"plugins\": [{\"type\": \"mesh\"}]}", path).is_err());
        let twice = "{\"name\": \"x\", \"plugins\": [{\"type\": \"a\"}, {\"type\": \"mesh\"}, {\"type\": \"mesh\"}]}";
        assert_eq!(leave(twice, path).unwrap(), "{\"name\": \"x\", \"plugins\": [{\"type\": \"a\"}]}");
    }

    #[test]
    fn which_network_is_said_where_there_is_more_than_one() {
        let networks: Vec<_> = ["shop", "podman"].map(|name| (PathBuf::from(name), name.to_owned())).into();
        assert_eq!(one_of(&networks, Some("podman")).unwrap(), Path::new("podman"));
        assert_eq!(one_of(&networks[..1], None).unwrap(), Path::new("shop"));
        for (networks, wanted, words) in [
            (&networks[..], None, "more than one network in /etc/cni/net.d: shop, podman"),
            (&networks[..0], None, "no network"),
            (&networks[..], Some("web"), "no list for a network web"),
        ] {
            let refusal = one_of(networks, wanted).unwrap_err();
            assert!(refusal.error.contains(words) && refusal.hint.is_some(), "{}", refusal.error);
        }
    }
}

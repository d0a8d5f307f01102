//! `mesh-node cni`, installed as `mesh` among the CNI plugins: the last one of a chain (CNI specification 0.3.1 to 1.1.0). It attaches
//! the namespace that the chain has made, and passes the chain's result on unchanged. CNI has no place for names and variables.

mod call;
mod error;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::Path,
    process::ExitCode,
};

use serde_json::{Value, json};

use self::{
    call::Call,
    error::{CniError, Lost, SUPPORTED},
};
use crate::{
    config::{Config, Sources},
    containers::Member,
    hint::Hint,
    local::{self, ClientError, ContainerId, Request, target},
    oci,
};

/// The plugin's name.
const NAME: &str = "mesh";

/// Whether this program was called as a plugin.
pub(crate) fn is_called(mut arguments: impl Iterator<Item = OsString>) -> bool {
    let program = arguments.next().unwrap_or_default();
    Path::new(&program).file_name() == Some(OsStr::new(NAME)) && env::var_os("CNI_COMMAND").is_some()
}

/// Carries out `$CNI_COMMAND`.
pub(crate) fn main() -> ExitCode {
    let (version, result) = match env::var("CNI_COMMAND").as_deref() {
        Ok("VERSION") => (SUPPORTED[SUPPORTED.len() - 1].to_owned(), Ok(Some(json!({"supportedVersions": SUPPORTED})))),
        Ok(command) => match Call::read(io::stdin().lock(), |name| env::var(name).ok()) {
            Ok(call) => (call.version.clone(), carry_out(command, &call)),
            // An unreadable configuration has attached nothing, or the end of the namespace detaches it. DEL must not fail.
            Err(error) if command == "DEL" => {
                oci::note(&error);
                return ExitCode::SUCCESS;
            }
            Err(error) => (SUPPORTED[0].to_owned(), Err(error)),
        },
        Err(_) => (SUPPORTED[0].to_owned(), Err(CniError::Environment("CNI_COMMAND"))),
    };
    let (mut answer, code) = match result {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(answer)) => (answer, ExitCode::SUCCESS),
        Err(error) => {
            let details = error.hint().unwrap_or_default();
            (json!({"code": error.code(), "msg": format!("mesh: {error}"), "details": details}), ExitCode::FAILURE)
        }
    };
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("cniVersion".into(), version.into());
    }
    match writeln!(io::stdout().lock(), "{answer}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn carry_out(command: &str, call: &Call) -> Result<Option<Value>, CniError> {
    match command {
        "ADD" => add(call).map(Some),
        "DEL" => {
            // DEL must not fail: the agent notices the end of a container by itself.
            if let Err(error) = call.id().and_then(|id| Ok(oci::detach(&call.state, id)?)) {
                oci::note(&error);
            }
            Ok(None)
        }
        "CHECK" => check(call).map(|()| None),
        "STATUS" => containers(call).map(|_| None).map_err(CniError::Unavailable),
        "GC" => Ok(collect(call).map(|()| None)?),
        other => Err(CniError::Command(other.to_owned())),
    }
}

fn add(call: &Call) -> Result<Value, CniError> {
    let Some(result) = call.previous.clone() else { return Err(CniError::First) };
    let config = Config::load(&call.state);
    let sources = Sources::possible(config.as_ref().map(|config| &config.containers));
    let Some(member) = call.member(&sources)? else { return Ok(result) };
    config?;
    let attached = attach(call, &member)?;
    oci::settle(&call.state, &member, attached)?;
    Ok(result)
}

/// Attaches the container. The outer error is a wrong call; the inner one is the agent's, which the configuration may tolerate.
fn attach(call: &Call, member: &Member) -> Result<Result<(), ClientError>, CniError> {
    let id = call.id()?;
    let path = call.namespace.clone().ok_or(CniError::Environment("CNI_NETNS"))?;
    let (_, namespace) = target::namespace(&path)?;
    let Member { service, client, release, .. } = member.clone();
    let request =
        Request::AttachContainer { id, service, client, release, hosts: None, resolv: None, namespace: Some(path) };
    Ok(oci::agent(&call.state).ask::<local::Attach>(&request, &[namespace.as_fd()]).map(drop))
}

fn check(call: &Call) -> Result<(), CniError> {
    // An invalid configuration must not take down a pod that may be outside the mesh.
    let sources = Config::load(&call.state).map(|config| config.containers.sources).unwrap_or_default();
    let Some(member) = call.member(&sources)? else { return Ok(()) };
    let id = call.id()?;
    // A container that may start without the mesh may also continue without it.
    match containers(call) {
        Ok(all) if all.contains(&id) => Ok(()),
        Ok(_) => oci::settle::<(), _>(&call.state, &member, Err(Lost(id))).map(drop).map_err(CniError::Check),
        Err(error) => Ok(oci::settle::<(), _>(&call.state, &member, Err(error)).map(drop)?),
    }
}

/// Releases all containers of this network except those that the runtime names.
fn collect(call: &Call) -> Result<(), ClientError> {
    let (prefix, valid) = (call.prefix(), call.valid());
    let all = containers(call)?;
    let stale = all.into_iter().filter(|id| id.to_string().starts_with(&prefix) && !valid.contains(&id.to_string()));
    stale.into_iter().try_for_each(|id| oci::detach(&call.state, id))
}

fn containers(call: &Call) -> Result<Vec<ContainerId>, ClientError> {
    oci::agent(&call.state).ask::<local::Containers>(&Request::Containers, &[]).map(|answer| answer.containers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn with_an_invalid_configuration_no_possible_member_starts_without_the_mesh() {
        let scratch = Scratch::new("cni-config");
        fs::write(scratch.0.join("config.toml"), "[containers]\nfial = \"open\"\n").unwrap();
        let add = |annotations: Value, arguments: &'static str| {
            let network = json!({
                "cniVersion": "1.0.0", "name": "net", "state": scratch.0, "prevResult": {"ips": []},
                "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
            });
            let variable = |name: &str| (name == "CNI_ARGS").then(|| arguments.to_owned());
            add(&Call::read(network.to_string().as_bytes(), variable).unwrap())
        };
        let nomad = "IgnoreUnknown=1;NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=web";
        for refused in [add(json!({"mesh.service": "shop/db"}), ""), add(json!({}), nomad)] {
            let error = refused.unwrap_err();
            assert!(error.code() == 11 && error.to_string().contains("config.toml, line 2: "), "{error:?}");
        }
        assert_eq!(add(json!({"app": "web"}), "IgnoreUnknown=1;K8S_POD_NAME=web").unwrap(), json!({"ips": []}));
    }
}

//! Shared by the two kinds of deployment files.

use std::path::Path;

use mesh_model::{Admin, AdminCommand, Command, Outcome, Record, State, UnixSeconds, declare::File, record::Meta};
use mesh_proto::{Range, Revision, view::Network};

/// Reads a deployment file, and applies it to an empty coordinator. A refusal has few lines, which begin with the
/// file's name. Applying the file again changes nothing.
pub(crate) fn apply(name: &str, data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let deployment = "shop".parse().expect("a label");
    let given = name.ends_with(".js").then_some(&deployment);
    let parsed = match mesh_files::parse(Path::new(name), text, given) {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(name), "{message}");
            assert!(message.len() < 4000, "{message}");
            return;
        }
    };
    let written = serde_json::to_string(&parsed.declarations).expect("declarations can be written");
    let read: Vec<mesh_model::declare::Declaration> = serde_json::from_str(&written).expect("what was written");
    assert_eq!(serde_json::to_string(&read).expect("declarations can be written"), written);

    let meta = Meta::new(Network { range: Range::DEFAULT, mtu: 1344 }).expect("the default network");
    let mut state = State::load(Revision(1), [Record::Meta(meta.into())]).expect("a new coordinator's records");
    let declarations = parsed.declarations.into_iter();
    let files: Vec<File> = declarations.map(|declaration| File { name: name.to_owned(), declaration }).collect();
    let apply = || Command::Admin {
        by: Admin::socket(0),
        what: AdminCommand::Apply { files: files.clone(), dry_run: false, force: false, prune: None },
    };
    let Ok(decision) = state.decide(&apply(), UnixSeconds(1)) else { return };
    if !decision.changes.is_empty() {
        state.absorb(&decision.changes, Revision(2));
    }
    let again = state.decide(&apply(), UnixSeconds(2)).expect("what was carried out before");
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    assert!(matches!(again.outcome, Outcome::Planned(plan) if plan.is_empty()));
}

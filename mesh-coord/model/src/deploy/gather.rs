//! Groups the files of one call by deployment.

use std::collections::{BTreeMap, btree_map::Entry};

use mesh_proto::{DeploymentId, Label, ServiceName, ServicePath};

use super::DeployRefusal;
use crate::{
    Refusal,
    declare::{self, Declaration, Declared, File},
    limits,
    record::{Deployment, TrustSource},
    refusal::at_most,
    words::list,
};

/// What the files declare about one deployment.
pub(super) enum Target<'a> {
    /// The whole deployment.
    Whole { file: &'a str, says: &'a declare::Deployment },
    /// Some of its services, each with its file. The others stay as they are.
    Singles(BTreeMap<&'a ServiceName, (&'a str, &'a Declared)>),
}

/// Groups the files by deployment, and refuses files that contradict each other.
pub(super) fn gather(files: &[File]) -> Result<BTreeMap<&Label, Target<'_>>, Refusal> {
    if files.is_empty() {
        return Err(DeployRefusal::NoFile.into());
    }
    at_most(limits::FILES, files.len(), "files", "one call")?;
    let mut targets: BTreeMap<&Label, Target<'_>> = BTreeMap::new();
    for File { name: file, declaration } in files {
        if file.len() > limits::FILE_NAME || file.chars().any(char::is_control) {
            return Err(DeployRefusal::FileName.into());
        }
        match declaration {
            Declaration::Whole(says) => match targets.entry(&says.name) {
                Entry::Vacant(entry) => {
                    entry.insert(Target::Whole { file, says });
                }
                Entry::Occupied(entry) => return Err(contradiction(&says.name, entry.get(), file).into()),
            },
            Declaration::Single { deployment, name, service } => {
                match targets.entry(deployment).or_insert_with(|| Target::Singles(BTreeMap::new())) {
                    Target::Whole { file: whole, .. } => {
                        return Err(mixed(deployment, whole, file).into());
                    }
                    Target::Singles(singles) => {
                        if let Some((first, _)) = singles.insert(name, (file, service)) {
                            let service = ServicePath { deployment: deployment.clone(), service: name.clone() };
                            let (first, second) = (first.to_owned(), file.clone());
                            return Err(DeployRefusal::ServiceTwice { service, first, second }.into());
                        }
                    }
                }
            }
        }
    }
    Ok(targets)
}

impl Target<'_> {
    /// The names of the files, as a list.
    pub(super) fn files(&self) -> String {
        match self {
            Self::Whole { file, .. } => (*file).to_owned(),
            Self::Singles(singles) => list(singles.values().map(|(file, _)| file)),
        }
    }

    /// Adds the files' names to a refusal.
    pub(super) fn refused(&self, refusal: Refusal) -> Refusal {
        DeployRefusal::In { file: self.files(), refusal: Box::new(refusal) }.into()
    }

    /// A new deployment.
    pub(super) fn new_deployment(&self, id: DeploymentId, name: &Label, team: Label) -> Deployment {
        let blank = Deployment {
            id,
            name: name.clone(),
            team,
            expose: None,
            trust: Vec::new(),
            trust_source: TrustSource::Command,
        };
        self.settle(&blank)
    }

    /// The deployment with the settings that the files declare.
    pub(super) fn settle(&self, before: &Deployment) -> Deployment {
        let mut after = before.clone();
        if let Self::Whole { file, says } = self {
            after.expose.clone_from(&says.expose);
            after.trust_source = TrustSource::Command;
            if let Some(trust) = &says.trust {
                after.trust.clone_from(trust);
                after.trust_source = TrustSource::File((*file).to_owned());
            }
        }
        after
    }

    /// The services that the files declare.
    pub(super) fn declared(&self) -> Box<dyn Iterator<Item = (&ServiceName, &Declared)> + '_> {
        match self {
            Self::Whole { says, .. } => Box::new(says.services.iter()),
            Self::Singles(singles) => Box::new(singles.iter().map(|(name, (_, declared))| (*name, *declared))),
        }
    }
}

fn contradiction(deployment: &Label, standing: &Target<'_>, file: &str) -> DeployRefusal {
    match standing {
        Target::Whole { file: first, .. } => {
            DeployRefusal::Twice { deployment: deployment.clone(), first: (*first).to_owned(), second: file.to_owned() }
        }
        Target::Singles(_) => mixed(deployment, file, &standing.files()),
    }
}

fn mixed(deployment: &Label, whole: &str, single: &str) -> DeployRefusal {
    DeployRefusal::WholeAndSingle { deployment: deployment.clone(), whole: whole.to_owned(), single: single.to_owned() }
}

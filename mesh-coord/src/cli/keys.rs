//! `keys` carries a coordinator's keys to others that share its records.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{print, print_versioned};
use crate::{backup, data};

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Write the keys of this machine's coordinator into a new file
    Export(Carried),
    /// Take the keys of another coordinator, before the first start of this one
    Import(Carried),
}

#[derive(Debug, Args)]
pub(super) struct Carried {
    /// The file, a tar archive; who reads it can act as the coordinator
    file: PathBuf,
    /// The data directory
    #[arg(long, value_name = "DIR", env = "MESH_COORD_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was carried.
#[derive(Serialize)]
struct Done<'a> {
    file: &'a Path,
    files: &'a [String],
}

pub(super) fn run(keys: &Keys) -> Result<()> {
    let (Keys::Export(args) | Keys::Import(args)) = keys;
    let directory = args.data.clone().unwrap_or_else(data::default_directory);
    let file = std::path::absolute(&args.file).context("the file has no path")?;
    let files = match keys {
        Keys::Export(_) => backup::export(&directory, &file)?,
        Keys::Import(_) => backup::import(&file, &directory)?,
    };
    if args.json {
        return print_versioned(&Done { file: &file, files: &files });
    }
    let files = files.join(", ");
    print(&match keys {
        Keys::Export(_) => {
            format!("{} holds {files}; next: `mesh-coord keys import` on the other machine", file.display())
        }
        Keys::Import(_) => {
            format!("{} holds {files} now; next: `mesh-coord serve --store etcd://…`", directory.display())
        }
    })
}

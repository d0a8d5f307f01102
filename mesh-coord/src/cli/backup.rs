//! `backup` and `restore`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use super::output::{print, print_versioned};
use crate::{
    backup::{self, Contents},
    data,
};

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The new file, a tar archive with the database and the keys; who reads it can act as the coordinator
    file: PathBuf,
    /// The data directory of the coordinator on this machine, which may run
    #[arg(long, value_name = "DIR", env = "MESH_COORD_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The file that `backup` has made
    file: PathBuf,
    /// The data directory, which must be empty or not exist
    #[arg(long, value_name = "DIR", env = "MESH_COORD_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was backed up or restored.
#[derive(Serialize)]
struct Done<'a> {
    file: &'a Path,
    revision: u64,
    files: &'a [String],
}

pub(super) fn backup(args: &Backup) -> Result<()> {
    let file = std::path::absolute(&args.file).context("the new file has no path")?;
    let contents = backup::make(&directory(args.data.as_ref()), &file)?;
    if args.json {
        return print_versioned(&done(&file, &contents));
    }
    print(&format!("{} holds revision {} and {}", file.display(), contents.revision, contents.files.join(", ")))
}

pub(super) fn restore(args: &Restore) -> Result<()> {
    let directory = directory(args.data.as_ref());
    let contents = backup::restore(&args.file, &directory)?;
    if args.json {
        return print_versioned(&done(&args.file, &contents));
    }
    print(&format!(
        "{} holds revision {} now; next: start the coordinator, at the URL that its agents know",
        directory.display(),
        contents.revision
    ))
}

fn directory(given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(data::default_directory)
}

fn done<'a>(file: &'a Path, contents: &'a Contents) -> Done<'a> {
    Done { file, revision: contents.revision, files: &contents.files }
}

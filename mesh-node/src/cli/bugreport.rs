//! `mesh-node bugreport`: one file with what explains a fault to others, and no secret.

mod error;
mod machine;
mod parts;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use mesh_process::directory;
use serde::Serialize;

use self::{error::BugreportError, parts::Part};
use super::{
    Context,
    output::{Failure, note},
};

/// How long the report waits for the agent, which may be the faulty part.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Bugreport {
    /// The file to write, mode 0600; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "mesh-bugreport.tar")]
    output: PathBuf,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    version: u32,
    file: &'a Path,
    parts: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    name: &'a str,
    about: &'a str,
    /// Why it is missing.
    error: Option<&'a str>,
}

impl Bugreport {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let parts = parts::collect(&context.state, &context.agent().within(PATIENCE));
        let archive = pack(&parts).map_err(BugreportError::Pack)?;
        if self.output == Path::new("-") {
            let mut out = io::stdout().lock();
            out.write_all(&archive).and_then(|()| out.flush()).map_err(super::error::CliError::Output)?;
            return Ok(ExitCode::SUCCESS);
        }
        write(&self.output, &archive).map_err(|error| BugreportError::Write { file: self.output.clone(), error })?;
        if context.output.json {
            let entries = parts.iter().map(|part| Entry {
                name: part.name,
                about: part.about,
                error: part.content.as_ref().err().map(String::as_str),
            });
            let entries = entries.collect();
            context.output.print_json(&Summary { version: 1, file: &self.output, parts: entries })?;
        } else {
            let rows = parts.iter().map(|part| {
                let missing = part.content.as_ref().err().map(|why| format!("missing: {why}"));
                [part.name.to_owned(), missing.unwrap_or_else(|| part.about.to_owned())]
            });
            context.output.print(&context.output.table(["FILE", "WHAT IT HOLDS"], rows))?;
            note(&format!(
                "{} is written. It holds no key, no token and no address of a service's clients; it does hold names, and the \
                 addresses of this machine and of other runners. Look at it with tar xf before you send it",
                self.output.display()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts the parts that there are into an archive (POSIX.1-1988 ustar).
fn pack(parts: &[Part]) -> io::Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut archive = tar::Builder::new(Vec::new());
    let readme = Part::readme(parts);
    for part in std::iter::once(&readme).chain(parts) {
        let Ok(content) = &part.content else { continue };
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("mesh-bugreport/{}", part.name), content.as_bytes())?;
    }
    archive.into_inner()
}

/// Writes the file next to its final name first: what has that name, a link perhaps, is replaced and never followed.
fn write(file: &Path, archive: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    directory::write_new(&new, |out| out.write_all(archive))?;
    std::fs::rename(&new, file).inspect_err(|_| drop(std::fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn the_archive_says_what_is_in_it_and_what_is_missing() {
        let parts = [
            Part { name: "status.json", about: "the state", content: Ok("{}\n".into()) },
            Part { name: "log.txt", about: "the log", content: Err("no agent".into()) },
        ];
        let packed = pack(&parts).unwrap();
        let mut archive = tar::Archive::new(&*packed);
        let files: Vec<(String, String)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mesh-bugreport/README.txt", "mesh-bugreport/status.json"]);
        let readme = &files[0].1;
        assert!(readme.contains("the state") && readme.contains("missing: no agent"), "{readme}");
    }

    #[test]
    fn a_link_in_its_place_is_replaced_and_not_followed() {
        let scratch = Scratch::new("bugreport");
        let (file, other) = (scratch.0.join("report.tar"), scratch.0.join("other"));
        fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        write(&file, b"archive").unwrap();
        assert_eq!(
            (fs::read(&file).unwrap().as_slice(), fs::read(&other).unwrap().as_slice()),
            (&b"archive"[..], &b"mine"[..])
        );
        assert_eq!(fs::symlink_metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&scratch.0.join("no/such/place"), b"").is_err());
    }
}

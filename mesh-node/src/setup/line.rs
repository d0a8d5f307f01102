//! A line of the agent's configuration. The file belongs to the operator: the line is marked, and the rest stays, to the byte.

use std::path::Path;

use super::SetupError;
use crate::config::Config;

/// A setting that this program writes.
pub(super) struct Line {
    /// The heading of its table.
    pub(super) table: &'static str,
    /// Its name.
    pub(super) key: &'static str,
    /// The end of the line, and of the heading if that had to be added.
    pub(super) mark: &'static str,
}

impl Line {
    /// The text of a configuration with this value, in place of an earlier one.
    ///
    /// # Errors
    /// If that text doesn't say what is wanted.
    pub(super) fn enter(&self, text: &str, path: &Path, value: &str, wanted: &Config) -> Result<String, SetupError> {
        let after = self.entered(text, value);
        match Config::parse(&after, path) {
            Ok(config) if config == *wanted => Ok(after),
            _ => Err(SetupError::AddLine { path: path.to_owned(), line: self.plain(value), table: self.table }),
        }
    }

    /// The text of a configuration without the line; `None` if nothing else is left.
    ///
    /// # Errors
    /// If what is wanted isn't known, or no text without the line says it.
    pub(super) fn leave(
        &self,
        text: &str,
        path: &Path,
        wanted: impl FnOnce() -> Result<Config, SetupError>,
    ) -> Result<Option<String>, SetupError> {
        let Some(candidates) = self.left(text) else { return Ok(Some(text.to_owned())) };
        let wanted = wanted()?;
        let fits = |text: &String| Config::parse(text, path).is_ok_and(|config| config == wanted);
        match candidates.into_iter().find(fits) {
            Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            None => Err(SetupError::RemoveLine { path: path.to_owned(), key: self.key }),
        }
    }

    /// The line without its mark.
    fn plain(&self, value: &str) -> String {
        format!("{} = {value}", self.key)
    }

    fn entered(&self, text: &str, value: &str) -> String {
        let line = format!("{}{}\n", self.plain(value), self.mark);
        let heading = format!("{}{}\n", self.table, self.mark);
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        if let Some(ours) = lines.iter_mut().find(|line| self.is_setting(line)) {
            *ours = &line;
        } else if let Some(at) = lines.iter().position(|line| line.trim() == self.table) {
            lines.insert(at + 1, &line);
        } else {
            lines.splice(0..0, [heading.as_str(), &line]);
        }
        lines.concat()
    }

    /// The text without the line, and without a heading that was added; or with that, for settings that the operator may have
    /// written below it. `None` if the line isn't there.
    fn left(&self, text: &str) -> Option<[String; 2]> {
        if !text.split_inclusive('\n').any(|line| self.is_setting(line)) {
            return None;
        }
        let without: Vec<&str> = text.split_inclusive('\n').filter(|line| !self.is_setting(line)).collect();
        let kept = |line: &&str| if self.is_heading(line) { line.replace(self.mark, "") } else { (*line).to_owned() };
        Some([
            without.iter().copied().filter(|line| !self.is_heading(line)).collect(),
            without.iter().map(kept).collect(),
        ])
    }

    fn is_setting(&self, line: &str) -> bool {
        let rest = line.strip_prefix(self.key);
        rest.is_some_and(|rest| rest.starts_with(" = ") && rest.trim_end().ends_with(self.mark))
    }

    fn is_heading(&self, line: &str) -> bool {
        line.starts_with(self.table) && line.trim_end().ends_with(self.mark)
    }
}

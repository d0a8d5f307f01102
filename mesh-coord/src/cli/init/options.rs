//! The options of the unit, in a file that may hold others by the operator or a package: these stay, to the byte.

/// The file that the unit reads.
pub(super) const FILE: &str = "/etc/default/mesh-coord";
/// The line before the one that `init` writes.
const MARK: &str = "# The next line is by `mesh-coord init`, which takes both out again with --undo.";
/// The variable with the options of `mesh-coord serve`.
const VARIABLE: &str = "MESH_COORD_OPTIONS=";

/// The options that a file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Options {
    None,
    /// `init` has written them.
    Ours(String),
    /// The operator has.
    Theirs(String),
}

impl Options {
    pub(super) fn of(text: &str) -> Self {
        let mut found = Self::None;
        let mut is_marked = false;
        for line in text.lines() {
            if let Some(value) = line.trim_start().strip_prefix(VARIABLE) {
                let value = value.trim().trim_matches(['"', '\'']).to_owned();
                found = if is_marked { Self::Ours(value) } else { Self::Theirs(value) };
            }
            is_marked = line == MARK;
        }
        found
    }

    /// The options, for people.
    pub(super) fn shown(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Ours(value) | Self::Theirs(value) => value,
        }
    }

    /// Whether these are among them, each with its value.
    pub(super) fn have(&self, wanted: &[[String; 2]]) -> bool {
        let (Self::Ours(value) | Self::Theirs(value)) = self else { return wanted.is_empty() };
        let words: Vec<&str> = value.split_whitespace().collect();
        wanted.iter().all(|[flag, value]| words.windows(2).any(|pair| pair == [flag, value]))
    }
}

/// The text with these options, in place of earlier ones of ours.
pub(super) fn entered(text: &str, options: &[[String; 2]]) -> String {
    let mut text = left(text).unwrap_or_else(|| text.to_owned());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &format!("{MARK}\n{VARIABLE}\"{}\"\n", options.concat().join(" "))
}

/// The text without what [`entered`] has added; `None` if there is nothing of it.
pub(super) fn left(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = lines.iter().position(|line| line.trim_end() == MARK)?;
    let ours = 1 + usize::from(lines.get(at + 1).is_some_and(|line| line.starts_with(VARIABLE)));
    Some(lines.iter().enumerate().filter(|(line, _)| !(at..at + ours).contains(line)).map(|(_, line)| *line).collect())
}

/// Whether neither the shell nor systemd reads anything else in a word than its characters.
pub(super) fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/[],".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGED: &str = include_str!("../../../../packaging/deb/mesh-coord.default");

    fn options(text: &str) -> Vec<[String; 2]> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words.chunks(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect()
    }

    #[test]
    fn they_come_and_go_and_the_rest_stays_to_the_byte() {
        let (first, second) = (options("--advertise https://a:1"), options("--listen [::]:1 --advertise https://b:1"));
        for before in ["", PACKAGED, "# mine\nRUST_LOG=debug\n"] {
            let after = entered(before, &first);
            assert!(after.starts_with(before), "{after}");
            assert_eq!(Options::of(&after), Options::Ours("--advertise https://a:1".to_owned()));
            let again = entered(&after, &second);
            assert_eq!(again.matches(MARK).count(), 1, "{again}");
            assert_eq!(Options::of(&again), Options::Ours("--listen [::]:1 --advertise https://b:1".to_owned()));
            assert_eq!(left(&again).as_deref(), Some(before));
            assert_eq!(left(before), None);
        }
        assert_eq!(left(&entered("A=1", &first)).as_deref(), Some("A=1\n"));
        let edited = entered(PACKAGED, &first).replace("https://a:1", "https://a:1 --mtu 1300");
        assert_eq!(left(&edited).as_deref(), Some(PACKAGED), "the operator has added to it");
    }

    #[test]
    fn the_operators_options_are_told_from_ours() {
        assert_eq!(Options::of(PACKAGED), Options::None);
        let theirs =
            Options::of("#MESH_COORD_OPTIONS=\"--mtu 1\"\nMESH_COORD_OPTIONS='--range 10.0.0.0/16  --name a'\n");
        assert_eq!(theirs, Options::Theirs("--range 10.0.0.0/16  --name a".to_owned()));
        assert!(theirs.have(&[]) && theirs.have(&options("--name a")) && theirs.have(&options("--range 10.0.0.0/16")));
        assert!(!theirs.have(&options("--range 10.0.0.0/8")) && !theirs.have(&options("--name a --listen [::]:1")));
        assert!(Options::None.have(&[]) && !Options::None.have(&options("--name a")));
    }

    #[test]
    fn what_a_shell_or_systemd_would_read_is_refused() {
        for word in ["https://[2001:db8::1]:7443,https://b", "100.80.0.0/16", "mesh.example.net"] {
            assert!(is_plain(word), "{word}");
        }
        for word in ["", "a b", "$HOME", "%i", "a\"b", "a\nb", "a\\"] {
            assert!(!is_plain(word), "{word}");
        }
    }
}

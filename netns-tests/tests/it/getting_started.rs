//! docs/getting-started.md as it is: its commands are run on two machines, and print what the page says.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use mesh_netns_tests::{Namespace, isolated, wait};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/getting-started.md");
const MACHINES: [(&str, &str); 2] = [("alpha", "192.0.2.10"), ("beta", "192.0.2.20")];
/// Where the page's commands are typed, on either machine: what is copied between them on the page is there already.
const DIRECTORY: &str = "/run/page";

/// What a machine needs that two of them can't share: its name and its state.
const MACHINE: &str = "hostname $NAME && mount -t tmpfs tmpfs /var/lib && cd /run/page && exec bash";

/// Something that the page has the reader do.
enum Step {
    Save { file: String, text: String },
    Type { machine: String, command: String, output: String, code: i32 },
}

/// Takes a page apart. A `toml` block is a file, named by its first line; a line of a `console` block that begins with
/// `MACHINE# ` is a command, and what follows is its output, with `[exit CODE]` at its end where it isn't 0.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in page.split("\n```").skip(1).step_by(2) {
        let (kind, text) = block.split_once('\n').expect("a fenced block has lines");
        match kind {
            "toml" => {
                let file = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("`# FILE` comes first");
                steps.push(Step::Save { file: file.to_owned(), text: text.to_owned() });
            }
            "console" => text.lines().for_each(|line| typed(&mut steps, line)),
            other => panic!("a block of kind `{other}`: nothing is known of these"),
        }
    }
    steps
}

fn typed(steps: &mut Vec<Step>, line: &str) {
    let prompt = line.split_once("# ").filter(|(machine, _)| MACHINES.iter().any(|(name, _)| name == machine));
    if let Some((machine, command)) = prompt {
        let (machine, command) = (machine.to_owned(), command.to_owned());
        return steps.push(Step::Type { machine, command, output: String::new(), code: 0 });
    }
    let Some(Step::Type { output, code, .. }) = steps.last_mut() else { panic!("output before any command: {line}") };
    match line.strip_prefix("[exit ").and_then(|rest| rest.strip_suffix(']')) {
        Some(number) => *code = number.parse().expect("an exit code"),
        None => *output += &format!("{line}\n"),
    }
}

/// Whether an output is the page's, where `…` stands for anything and spaces and line ends count as one space.
fn fits(page: &str, output: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (page, output) = (words(page), words(output));
    let mut parts = page.split('…');
    let Some(mut rest) = parts.next().and_then(|first| output.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// A shell on a machine, for all that is typed there.
struct Shell {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    typed: u32,
}

impl Shell {
    fn open(name: &'static str, machine: &Namespace, programs: &str) -> Self {
        let mut command = machine.command("unshare");
        command.args(["--mount", "--uts", "bash", "-c", MACHINE]).env("NAME", name).env("PATH", programs);
        command.env("NO_COLOR", "1").env_remove("MESH_COORD_DATA").env_remove("MESH_NODE_STATE");
        let mut child = command.stdin(Stdio::piped()).spawn().expect("cannot start unshare(1)");
        let input = child.stdin.take().expect("piped");
        Self { name, child, input, typed: 0 }
    }

    /// Its output, standard error as well, and its exit code.
    fn run(&mut self, command: &str) -> (String, i32) {
        self.typed += 1;
        let file = |kind: &str| Path::new(DIRECTORY).join(format!(".{}-{}.{kind}", self.name, self.typed));
        let (output, code, written): (PathBuf, PathBuf, PathBuf) = (file("output"), file("code"), file("written"));
        let [o, c, w] = [&output, &code, &written].map(|path| path.display());
        writeln!(self.input, "{{ {command}\n}} >{o} 2>&1; echo $? >{w}; mv {w} {c}").expect("the shell has ended");
        let code = wait::until(&format!("the end of `{command}` on {}", self.name), || fs::read_to_string(&code).ok());
        (fs::read_to_string(&output).expect("the output"), code.trim().parse().expect("an exit code"))
    }

    /// Runs a command until it prints what the page says: what the page starts in the background needs a moment.
    fn agrees(&mut self, command: &str, output: &str, code: i32) {
        let only_looks = ["mesh-coord nodes", "cat "];
        let may_wait = only_looks.iter().any(|begin| command.starts_with(begin));
        let mut last = (String::new(), 0);
        let mut good = || {
            last = self.run(command);
            last.1 == code && fits(output, &last.0)
        };
        let good = if may_wait { settled(good) } else { good() };
        let name = self.name;
        assert!(
            good,
            "{name}# {command}\nprinted (exit {}):\n{}\nand the page says (exit {code}):\n{output}",
            last.1, last.0
        );
    }
}

/// Whether a condition comes true in time; what is last seen of it is then for the caller to show.
fn settled(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = std::time::Instant::now() + wait::PATIENCE;
    while !condition() {
        if std::time::Instant::now() > deadline {
            return false;
        }
    }
    true
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with the programs under the names that the page calls them by.
fn programs() -> String {
    let directory = "/run/programs";
    fs::create_dir_all(directory).expect("a directory");
    for (name, variable) in [("mesh-coord", "MESH_COORD"), ("mesh-node", "MESH_NODE")] {
        let path = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set, see scripts/test"));
        let path = fs::canonicalize(path).expect("the program");
        std::os::unix::fs::symlink(path, format!("{directory}/{name}")).expect("a link");
    }
    format!("{directory}:{}", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn the_commands_of_the_page_do_what_it_says() {
    isolated(|| {
        for program in ["python3", "curl"] {
            let there = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            assert!(there.is_ok_and(|status| status.success()), "the page needs {program}: install it");
        }
        fs::create_dir_all(DIRECTORY).expect("a directory");
        let machines = MACHINES.map(|(name, _)| Namespace::create(name));
        machines[0].ip(&["link add eth0 type veth peer name eth0 netns beta"]);
        for (machine, (_, address)) in machines.iter().zip(MACHINES) {
            machine.ip(&[&format!("addr add {address}/24 dev eth0"), "link set eth0 up"]);
        }
        machines.iter().for_each(|machine| machine.wait_up("eth0"));
        let path = programs();
        let mut index = 0;
        let mut shells = MACHINES.map(|(name, _)| {
            index += 1;
            Shell::open(name, &machines[index - 1], &path)
        });
        let page = fs::read_to_string(PAGE).unwrap_or_else(|e| panic!("cannot read {PAGE}: {e}"));
        for step in steps(&page) {
            match step {
                Step::Save { file, text } => fs::write(Path::new(DIRECTORY).join(file), text).expect("a file"),
                Step::Type { machine, command, output, code } => {
                    let shell = shells.iter_mut().find(|shell| shell.name == machine).expect("a machine of the page");
                    shell.agrees(&command, &output, code);
                }
            }
        }
    });
}

#[test]
fn the_page_is_compared_word_by_word() {
    assert!(
        fits("a …  c\n", "a b\n c")
            && fits("r-… x", "r-17 x")
            && fits("", "\n")
            && fits("a …", "a b c")
            && fits("a … c …", "a b c d")
    );
    assert!(!fits("a … c", "a b") && !fits("", "x") && !fits("a", "a b"));
}

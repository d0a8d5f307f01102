//! docs/getting-started.md as it is: its commands are run on two machines with systemd, Docker and the packages, and print
//! what the page says. Then they are repeated, undone and misused.

mod after;

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, ChildStdin, Stdio},
};

use mesh_netns_tests::{Namespace, Outcome, isolated, wait};
use mesh_runtime_tests::{DOCKER_COMMANDS, Lab, Systemd, dpkg, machine, package};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/getting-started.md");
const MACHINES: [(&str, &str); 2] = [("alpha", "192.0.2.10"), ("beta", "192.0.2.20")];
/// Where the page's commands are typed, on either machine.
const DIRECTORY: &str = "root/page";

/// Something that the page has the reader do.
enum Step {
    Save { file: String, text: String },
    Type { machine: String, command: String, output: String, code: i32 },
}

/// Takes a page apart. A `toml` or `yaml` block is a file, named by its first line; a line of a `console` block that begins with
/// `MACHINE# ` is a command, and what follows is its output, with `[exit CODE]` at its end where it isn't 0.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in page.split("\n```").skip(1).step_by(2) {
        let (kind, text) = block.split_once('\n').expect("a fenced block has lines");
        match kind {
            "toml" | "yaml" => {
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

/// A machine of the page, with a shell for all that is typed there.
struct Machine {
    name: &'static str,
    systemd: Systemd,
    shell: Child,
    input: ChildStdin,
    typed: u32,
}

impl Machine {
    fn new(lab: &Lab, name: &'static str, namespace: &Namespace) -> Self {
        let systemd = machine(lab, namespace);
        systemd.start_docker(lab);
        fs::create_dir_all(systemd.root().join(DIRECTORY)).expect("a directory");
        let mut command = systemd.prepare(&["bash"]);
        let mut shell = command.stdin(Stdio::piped()).spawn().expect("cannot start nsenter(1)");
        let mut input = shell.stdin.take().expect("piped");
        writeln!(input, "export HOME=/root PATH={DOCKER_COMMANDS}:/usr/sbin:/usr/bin; cd /{DIRECTORY}")
            .expect("a shell");
        Self { name, systemd, shell, input, typed: 0 }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.systemd.root().join(DIRECTORY).join(name)
    }

    /// Its output, standard error as well, and its exit code.
    fn run(&mut self, command: &str) -> (String, i32) {
        self.typed += 1;
        let [output, written, code] = ["output", "written", "code"].map(|kind| format!(".{kind}-{}", self.typed));
        writeln!(self.input, "{{ {command}\n}} >{output} 2>&1; echo $? >{written}; mv {written} {code}")
            .expect("the shell has ended");
        let what = format!("the end of `{command}` on {}", self.name);
        let code = wait::within(2 * wait::PATIENCE, &what, || fs::read_to_string(self.file(&code)).ok());
        let output = fs::read_to_string(self.file(&output)).expect("the output");
        (output, code.trim().parse().expect("an exit code"))
    }

    /// Runs a command until it prints what the page says: what the page starts needs a moment.
    fn agrees(&mut self, command: &str, output: &str, code: i32) {
        let only_looks = ["mesh-coord nodes", "mesh-coord instances", "docker compose exec"];
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

    /// A command of the packages, by the test itself.
    fn command(&self, arguments: &[&str]) -> Outcome {
        self.systemd.command(&[&["env", "PATH=/usr/sbin:/usr/bin"], arguments].concat())
    }

    fn process(&self, unit: &str) -> String {
        self.systemd.systemctl(&["show", "--property=MainPID", unit]).done().stdout
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

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn the_commands_of_the_page_do_what_it_says_and_can_be_repeated_and_undone() {
    isolated(|| {
        let lab = Lab::new();
        let namespaces = MACHINES.map(|(name, _)| Namespace::create(name));
        namespaces[0].ip(&["link add eth0 type veth peer name eth0 netns beta"]);
        for (namespace, (_, address)) in namespaces.iter().zip(MACHINES) {
            namespace.ip(&[&format!("addr add {address}/24 dev eth0"), "link set eth0 up"]);
        }
        namespaces.iter().for_each(|namespace| namespace.wait_up("eth0"));
        let [mut alpha, mut beta] = [0, 1].map(|index| Machine::new(&lab, MACHINES[index].0, &namespaces[index]));
        for (machine, packages) in [(&alpha, &["mesh-coord", "mesh-node"][..]), (&beta, &["mesh-node"])] {
            let packages: Vec<String> = packages.iter().map(|name| package(&machine.systemd, name)).collect();
            let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
            dpkg(&machine.systemd, &[&["--install"], &packages[..]].concat());
        }
        let page = fs::read_to_string(PAGE).unwrap_or_else(|e| panic!("cannot read {PAGE}: {e}"));
        for step in steps(&page) {
            match step {
                Step::Save { file, text } => {
                    [&alpha, &beta].into_iter().for_each(|at| fs::write(at.file(&file), &text).expect("a file"));
                }
                Step::Type { machine, command, output, code } => {
                    let at = if machine == "alpha" { &mut alpha } else { &mut beta };
                    at.agrees(&command, &output, code);
                }
            }
            // What the page has the reader copy.
            let _ = fs::copy(alpha.file("token"), beta.file("token"));
        }
        after::everything_is_gone(&alpha);
        after::it_is_repeated(&alpha);
        after::it_is_misused(&alpha);
        alpha.command(&["mesh-node", "leave"]).done();
        alpha.command(&["mesh-coord", "init", "--undo"]).done();
        after::everything_is_gone(&alpha);
        after::without_packages(&alpha, &namespaces[0]);
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

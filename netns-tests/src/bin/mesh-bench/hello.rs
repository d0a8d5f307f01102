//! How long other commands wait while the coordinator decides on one runner's largest hello.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Control, Coordinator, Identity, Runner, Stack, World};
use serde_json::{Value, json};

/// The sizes of the deployment that is asked for.
const SERVICES: [usize; 2] = [200, 4096];
/// The most instances that a hello may name.
const INSTANCES: usize = 4096;
/// Hellos of each kind.
const HELLOS: u32 = 5;
/// A hello counts as 65 messages to the coordinator's limit for a runner, of which ten a second come back.
const PAUSE: Duration = Duration::from_secs(8);

/// What a hello names.
#[derive(Debug, Clone, Copy)]
enum Names {
    /// 1 MiB of services that don't exist.
    Unknown,
    /// Instances of services that do, which the coordinator takes in.
    Known,
}

/// The times of one kind of hello, in milliseconds.
#[derive(Debug)]
struct Delay {
    services: usize,
    names: Names,
    bytes: usize,
    /// The longest command without a hello.
    idle: f64,
    /// The longest command beside each hello.
    beside: Vec<f64>,
}

#[derive(Debug)]
pub(crate) struct Hello(Vec<Delay>);

impl Hello {
    pub(crate) fn measure(world: &World) -> Self {
        Self(SERVICES.into_iter().flat_map(|services| measure(world, services)).collect())
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for delay in &self.0 {
            let Delay { services, bytes, idle, .. } = delay;
            let _ = writeln!(
                text,
                "a command beside a hello of {bytes} bytes ({}, {services} services): longest of each of {HELLOS}: {} ms; \
                 longest without: {idle:.0} ms",
                delay.names.text(),
                delay.beside.iter().map(|ms| format!("{ms:.0}")).collect::<Vec<_>>().join(", "),
            );
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let one = |delay: &Delay| {
            json!({"services": delay.services, "names": delay.names.text(), "bytes": delay.bytes,
                "longest_idle_ms": delay.idle, "longest_beside_ms": delay.beside})
        };
        self.0.iter().map(one).collect()
    }
}

impl Names {
    const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "of unknown services",
            Self::Known => "of instances that are taken in",
        }
    }

    fn hello(self, services: usize, first: u32) -> Value {
        let instance = |number: usize| {
            let service = match self {
                Self::Unknown => format!("s-{number}-{}", "x".repeat(135)),
                Self::Known => format!("s-{}", number % services),
            };
            let address = first + u32::try_from(number).expect("a few");
            json!({"instance": format!("i-{}", 1_000_000 + number), "service": format!("shop/{service}"),
                "address": std::net::Ipv4Addr::from(address), "client": false})
        };
        let instances: Vec<Value> = (0..INSTANCES).map(instance).collect();
        json!({"type": "hello", "protocol": 1, "version": "bench", "have": null, "endpoints": [], "port": 51820,
            "instances": instances})
    }
}

fn measure(world: &World, services: usize) -> Vec<Delay> {
    eprintln!("hello: {services} services");
    let coordinator = world.coordinator_named(&format!("h{services}"), &[]);
    let declared: String = (0..services).map(|number| format!("[services.s-{number}]\n")).collect();
    coordinator.apply(&format!("deployment = \"shop\"\n{declared}")).done();
    let mut runner = world.machine(&format!("r{services}"), Stack::V4);
    let token = coordinator.token(&["--deployment", "shop"]);
    runner.start(&[&coordinator.url(false), &token, "--name", "r", "--provider", "p"]);
    runner.stop();
    let idle = longest(&coordinator, || thread::sleep(PAUSE));
    [Names::Unknown, Names::Known].map(|names| delay(&coordinator, &runner, services, names, idle)).into()
}

fn delay(coordinator: &Coordinator, runner: &Runner, services: usize, names: Names, idle: f64) -> Delay {
    let identity = Identity::of(runner);
    let url = coordinator.url(false);
    let to = url.trim_start_matches("https://").parse().expect("an address");
    // From the middle of the range, so that none of them is taken.
    let hello = names.hello(services, u32::from_be_bytes([100, 120, 0, 0]));
    let machine = runner.namespace();
    let beside = (0..HELLOS).map(|_| {
        thread::sleep(PAUSE);
        longest(coordinator, || {
            let stream = Control::open_saying(machine, to, &identity, &hello);
            stream.expect("the coordinator takes the stream").hear().expect("the coordinator answers a hello");
        })
    });
    Delay { services, names, bytes: hello.to_string().len(), idle, beside: beside.collect() }
}

/// The longest that a command takes that the writer decides on, one after another for as long as `act` does, in ms.
fn longest(coordinator: &Coordinator, act: impl FnOnce() + Send) -> f64 {
    thread::scope(|scope| {
        let act = scope.spawn(act);
        let mut longest = Duration::ZERO;
        let mut changes = [&["--service", "s-0"][..], &["--remove"]].into_iter().cycle();
        while !act.is_finished() {
            let change = changes.next().unwrap_or_default();
            let mut command = coordinator.prepare(&[&["trust", "audit", "--app", "shop"], change].concat());
            let begun = Instant::now();
            let output = command.output().expect("mesh-coord runs");
            longest = longest.max(begun.elapsed());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        act.join().expect("what is measured");
        longest.as_secs_f64() * 1000.0
    })
}

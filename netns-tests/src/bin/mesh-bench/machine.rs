//! Where it was measured: no figure means anything without that.

use std::{collections::BTreeMap, fs, process::Command, thread, time::Duration};

use mesh_netns_tests::run;
use serde_json::{Value, json};

use crate::{iperf, meter};

/// A machine that does this much besides is measuring something else: processors.
const QUIET: f64 = 0.1;

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    pub(crate) date: String,
    /// Of the programs, by name.
    pub(crate) versions: BTreeMap<String, String>,
    /// How many processors were busy before anything began.
    busy: f64,
    /// Buffer sizes of sockets: they bound what TCP can do.
    settings: BTreeMap<&'static str, String>,
    /// Remarks for the reader of the figures.
    pub(crate) remarks: Vec<String>,
}

const SETTINGS: &[&str] = &["net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem", "net/core/rmem_max", "net/core/wmem_max"];

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let mut date = Command::new("date");
        date.args(["-u", "+%Y-%m-%d %H:%M UTC"]);
        let [before, _] = meter::machine();
        thread::sleep(Duration::from_secs(1));
        let busy = meter::machine()[0] - before;
        let warning = format!(
            "The machine was not quiet ({busy:.1} processors busy before anything began): not for publication."
        );
        Self {
            cpu: model.map_or("unknown processor", |(_, model)| model.trim()).to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            date: run(date).stdout.trim().to_owned(),
            versions: [("iperf3".to_owned(), iperf::version())].into(),
            busy,
            settings: SETTINGS.iter().map(|name| (*name, read(&format!("/proc/sys/{name}")))).collect(),
            remarks: if busy > QUIET { vec![warning] } else { vec![] },
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "processors": self.processors,
            "kernel": self.kernel,
            "date": self.date,
            "versions": self.versions,
            "busy_before": self.busy,
            "settings": self.settings,
            "remarks": self.remarks,
        })
    }
}

//! What has to be reached, as ratios within one run, and whether it was.

use serde_json::{Value, json};

use crate::{
    figures::{Figures, Quantity, Spread, ratio},
    memory::Memory,
};

/// A bound from below or from above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What a target asks for, and what there is.
pub(crate) struct Result {
    pub(crate) what: &'static str,
    pub(crate) measured: Spread,
    pub(crate) unit: &'static str,
    pub(crate) bound: Option<Bound>,
    pub(crate) aim: Option<Bound>,
}

/// A contender beside another one.
struct Ratio {
    what: &'static str,
    of: &'static str,
    to: &'static str,
    quantity: Quantity,
    /// With cubic, and with bbr; `None`: it is only aimed at.
    bounds: Option<[Bound; 2]>,
    aim: Option<Bound>,
}

use Bound::{AtLeast, AtMost};

const RATIOS: &[Ratio] = &[
    Ratio {
        what: "1 stream, both at MTU 1408",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.one.transfer.gbits,
        bounds: Some([AtLeast(1.6), AtLeast(1.5)]),
        aim: Some(AtLeast(2.0)),
    },
    Ratio {
        what: "1 stream, the other way",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.back.transfer.gbits,
        bounds: Some([AtLeast(1.6), AtLeast(1.5)]),
        aim: Some(AtLeast(2.0)),
    },
    Ratio {
        what: "8 streams",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.many.transfer.gbits,
        bounds: Some([AtLeast(2.5), AtLeast(1.7)]),
        aim: Some(AtLeast(3.0)),
    },
    Ratio {
        what: "1 stream, both at their own MTU (1344, 1420)",
        of: "mesh-default",
        to: "wireguard-go-default",
        quantity: |sample| sample.one.transfer.gbits,
        bounds: Some([AtLeast(1.5); 2]),
        aim: Some(AtLeast(1.9)),
    },
    Ratio {
        what: "daemons' processor time for a GB",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.one.daemons_per_gb(),
        bounds: Some([AtMost(0.56), AtMost(0.62)]),
        aim: Some(AtMost(0.45)),
    },
    Ratio {
        what: "round trip of an byte, p50",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.idle.p50,
        bounds: Some([AtMost(0.65); 2]),
        aim: None,
    },
    Ratio {
        what: "the same, beside boringtun-cli",
        of: "mesh",
        to: "boringtun-cli",
        quantity: |sample| sample.idle.p50,
        bounds: None,
        aim: Some(AtMost(1.0)),
    },
    Ratio {
        what: "round trip beside a full transfer, p50",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.loaded.p50,
        bounds: Some([AtMost(0.8); 2]),
        aim: None,
    },
    Ratio {
        what: "connections a second, one after another",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.serial,
        bounds: Some([AtLeast(1.0); 2]),
        aim: Some(AtLeast(1.5)),
    },
    Ratio {
        what: "connections a second, 8 at once",
        of: "mesh",
        to: "wireguard-go",
        quantity: |sample| sample.parallel,
        bounds: Some([AtLeast(1.0); 2]),
        aim: Some(AtLeast(1.5)),
    },
    Ratio {
        what: "10 000 rules, 1 000 peers: processor time",
        of: "mesh-known",
        to: "mesh",
        quantity: |sample| sample.one.daemons_per_gb(),
        bounds: Some([AtMost(1.05); 2]),
        aim: Some(AtMost(1.02)),
    },
    Ratio {
        what: "on one runner, 1 stream, beside raw veth",
        of: "mesh-local",
        to: "veth",
        quantity: |sample| sample.one.transfer.gbits,
        bounds: Some([AtLeast(0.45); 2]),
        aim: Some(AtLeast(0.6)),
    },
];

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(bound) => value >= bound,
            AtMost(bound) => value <= bound,
        }
    }

    pub(crate) fn text(self, unit: &str) -> String {
        match self {
            AtLeast(bound) => format!("≥ {bound} {unit}"),
            AtMost(bound) => format!("≤ {bound} {unit}"),
        }
    }
}

/// Of all of whose contenders there are figures.
pub(crate) fn results(figures: &[Figures], memory: Option<&Memory>, cc: &str) -> Vec<Result> {
    let find = |name: &str| figures.iter().find(|figures| figures.name == name);
    let ratios = RATIOS.iter().filter_map(|target| {
        let measured = ratio(find(target.of)?, find(target.to)?, target.quantity);
        let bound = target.bounds.map(|bounds| bounds[usize::from(cc == "bbr")]);
        Some(Result { what: target.what, measured, unit: "x", bound, aim: target.aim })
    });
    ratios.chain(memory.into_iter().flat_map(of_memory)).collect()
}

fn of_memory(memory: &Memory) -> [Result; 3] {
    let result = |what, value, unit, bound| {
        let measured = Spread { median: value, least: value, most: value };
        Result { what, measured, unit, bound: Some(AtMost(bound)), aim: None }
    };
    [
        result("memory without peers", memory.alone_kib / 1024.0, "MiB", 15.0),
        result("memory for a known peer that is idle", memory.known_kib, "KiB", 1.0),
        result("memory for a peer with a session", memory.session_kib, "KiB", 14.0),
    ]
}

impl Result {
    pub(crate) fn json(&self) -> Value {
        let text = |bound: Option<Bound>| bound.map(|bound| bound.text(self.unit));
        let met = |bound: Option<Bound>| bound.map(|bound| bound.holds(self.measured.median));
        json!({
            "what": self.what,
            "measured": self.measured.median,
            "range": [self.measured.least, self.measured.most],
            "unit": self.unit,
            "bound": text(self.bound),
            "met": met(self.bound),
            "aim": text(self.aim),
            "aim_met": met(self.aim),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_on_its_own_side() {
        assert!(AtLeast(1.6).holds(1.6) && !AtLeast(1.6).holds(1.59));
        assert!(AtMost(0.56).holds(0.56) && !AtMost(0.56).holds(0.57));
    }
}

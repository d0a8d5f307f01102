//! `why --probe`: opens the connection from an instance of the caller on this runner.

use std::{io, net::Ipv4Addr};

use mesh_proto::{
    ServicePath,
    message::{Refusal, Step},
    why::Explanation,
};

use super::{Agent, why::Question};
use crate::attach::Probed;

impl Agent {
    /// If the verdict allows the connection, adds the result of a real one.
    pub(super) async fn probe(&self, question: &Question, said: Explanation) -> Result<Explanation, Refusal> {
        if !said.allowed {
            return Ok(said);
        }
        let Question { caller, callee, port } = question;
        let address = self.address_of(callee).ok_or_else(|| {
            Refusal::new(
                format!("this runner does not know the address of {callee}"),
                format!("run it where an instance of {caller} is"),
            )
        })?;
        let probed = self.instances.probe(caller, (address, *port)).await?;
        Ok(with_probe(said, question, &probed))
    }

    fn address_of(&self, service: &ServicePath) -> Option<Ipv4Addr> {
        let view = self.control.view()?;
        let deployment = view.deployments().find(|d| d.name == service.deployment)?.id;
        view.services().find(|s| s.deployment == deployment && s.name == service.service).map(|s| s.address)
    }
}

fn with_probe(mut said: Explanation, question: &Question, probed: &Probed) -> Explanation {
    let Question { caller, callee, port } = question;
    let (ok, code, detail) = words(probed, callee, *port);
    let verdict = said.steps.pop();
    said.allowed = ok;
    said.steps.push(Step { step: "probe".to_owned(), ok, code: code.to_owned(), detail });
    said.steps.extend(verdict.map(|verdict| match ok {
        true => verdict,
        false => Step {
            ok: false,
            code: "unanswered".to_owned(),
            detail: format!(
                "{caller} may connect to {callee} on port {port}, but a connection that was tried did not come about"
            ),
            ..verdict
        },
    }));
    said
}

fn words(probed: &Probed, callee: &ServicePath, port: u16) -> (bool, &'static str, String) {
    let what = |kind: &io::ErrorKind| match kind {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        other => other.to_string(),
    };
    match probed {
        Probed::Answered => (true, "answered", format!("a connection to port {port} was answered, and closed again")),
        Probed::Refused(io::ErrorKind::ConnectionRefused) => {
            let detail = format!(
                "{callee} refused it: no program listens on port {port} there, or a firewall in its container rejects it"
            );
            (false, "refused-by-callee", detail)
        }
        Probed::Refused(kind) => (
            false,
            "refused-by-mesh",
            format!("a runner refused it ({}): `mesh-node denied` names the reason", what(kind)),
        ),
        Probed::RefusedWithin(kind) => {
            let detail = format!(
                "the caller's own container refused it ({}), and it never reached mesh0: look at the firewall (`nft list ruleset`) and the routing (`ip rule`) there",
                what(kind)
            );
            (false, "refused-in-container", detail)
        }
        Probed::Stayed => {
            let detail = "the SYN never left the caller's container by mesh0: a firewall (`nft list ruleset`) or policy routing (`ip rule`) there takes the mesh's range";
            (false, "never-left", detail.to_owned())
        }
        Probed::Unanswered => {
            let detail = format!(
                "the SYN left the caller's container, and nothing came back: look at the firewall in the container of {callee}, and in the caller's for what comes in"
            );
            (false, "no-answer", detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_about_turns_the_verdict() {
        let (caller, callee) = ("shop/app".parse().unwrap(), "shop/db".parse().unwrap());
        let question = Question { caller, callee, port: 80 };
        let verdict = Step { step: "verdict".into(), ok: true, code: "allowed".into(), detail: "it may".into() };
        let said = Explanation { allowed: true, steps: vec![verdict.clone()] };
        let answered = with_probe(said.clone(), &question, &Probed::Answered);
        assert!(answered.allowed && answered.steps[0].code == "answered" && answered.steps[1] == verdict);
        for (probed, code) in [
            (Probed::Stayed, "never-left"),
            (Probed::Unanswered, "no-answer"),
            (Probed::Refused(io::ErrorKind::ConnectionRefused), "refused-by-callee"),
            (Probed::Refused(io::ErrorKind::HostUnreachable), "refused-by-mesh"),
            (Probed::RefusedWithin(io::ErrorKind::ConnectionRefused), "refused-in-container"),
        ] {
            let failed = with_probe(said.clone(), &question, &probed);
            assert!(!failed.allowed && !failed.steps[1].ok && failed.steps[0].code == code, "{failed:?}");
        }
    }
}

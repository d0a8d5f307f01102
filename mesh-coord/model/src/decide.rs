//! Dispatches a command to the part of the model that decides on it.

use std::sync::Arc;

use crate::{
    Apply, Command, Decision, Now, Refusal, RunnerCommand, State, audit, calls, deploy,
    drain::{self, Way},
    enrol, host, owed,
    record::Runner,
    relay, rights, session, switch, token, trust,
};

impl State {
    /// Decides on a command without changing anything. Commit the changes on this state's revision only.
    ///
    /// # Errors
    /// Why the command is refused.
    pub fn decide(&self, command: &Command, now: impl Into<Now>) -> Result<Decision, Refusal> {
        rights::check(command)?;
        self.decide_for_any_role(command, now.into())
    }

    /// The same whatever the administrator's role includes: to say what a command would do.
    pub(crate) fn decide_for_any_role(&self, command: &Command, now: Now) -> Result<Decision, Refusal> {
        use crate::AdminCommand as A;
        match command {
            Command::Admin { by, what } => match what {
                A::Apply { files, dry_run, force, prune } => {
                    let consent = deploy::Consent { force: *force, prune: prune.unwrap_or(true) };
                    deploy::apply(self, by, (files, &[]), *dry_run, consent, now)
                }
                A::Delete { deployment, force } => deploy::delete(self, by, deployment, *force, now),
                A::Trust { deployment, change } => trust::change(self, by, deployment, change, now),
                A::RevokeToken { token, with_nodes } => token::revoke(self, by, *token, *with_nodes, now),
                A::RemoveNode { name, force } => enrol::remove(self, by, name, *force, now),
                A::RemoveRelay { name } => relay::remove(self, by, name, now),
                A::Drain { instance } => drain::instance(self, by, *instance, Way::Drain, now),
                A::Undrain { instance } => drain::instance(self, by, *instance, Way::Undrain, now),
                A::DrainNode { name } => drain::node(self, by, name, Way::Drain, now),
                A::UndrainNode { name } => drain::node(self, by, name, Way::Undrain, now),
                A::Switch { offload, on, node } => switch::switch(self, by, *offload, *on, node.as_ref(), now),
            },
            Command::Apply { by, what: Apply { files, expect, dry_run, force, prune } } => {
                let consent = deploy::Consent { force: *force, prune: *prune };
                deploy::apply(self, by, (files, expect), *dry_run, consent, now)
            }
            Command::CreateToken { by, token, secret } => token::create(self, by, token, secret, now),
            Command::Refused { by, action, detail } => Ok(audit::refused(self, by, action, detail, now)),
            Command::AddRelay { by, relay, secret } => relay::add(self, by, relay, *secret, now),
            Command::EnrolRelay(enrolment) => relay::enrol(self, enrolment, now),
            Command::RelayHello { by, version, public } => relay::hello(self, *by, version, public, now),
            Command::Enrol(enrolment) => enrol::enrol(self, enrolment, now),
            Command::Silent { runners, held_back } => Ok(host::silent(self, runners, *held_back, now)),
            Command::Expire(runner) => Ok(enrol::expire(self, self.active_runner(*runner)?, now)),
            Command::PutBack { runner, seen } => Ok(audit::put_back(self, self.active_runner(*runner)?, *seen, now)),
            Command::Runner { by, what } => self.decide_runner(self.active_runner(*by)?, what, now),
            Command::Streamed { by, stream, what } => {
                let runner = self.active_runner(*by)?;
                session::check(self, runner, *stream)?;
                self.decide_runner(runner, what, now)
            }
            Command::Begin { session, living } => {
                Ok(session::begin(self, self.active_runner(session.runner)?, *session, living, now))
            }
            Command::Owing(streams) => Ok(owed::owing(self, streams, now)),
            Command::NoteCalls(noted) => Ok(calls::note(self, noted, now)),
        }
    }

    fn decide_runner(&self, runner: &Arc<Runner>, what: &RunnerCommand, now: Now) -> Result<Decision, Refusal> {
        use crate::RunnerCommand as R;
        match what {
            R::Hello { version, can, endpoints, seen, outside, instances } => {
                host::hello(self, runner, (version, *can), (endpoints, *seen, outside), instances, now)
            }
            R::Endpoints { endpoints, outside } => host::endpoints(self, runner, endpoints, outside, now),
            R::Attach { service, client, release } => {
                host::attach(self, runner, service, *client, release.clone(), now)
            }
            R::Detach { instance } => Ok(host::detach(self, runner, *instance, now)),
            R::Drain { instance } => drain::own(self, runner, *instance, Way::Drain, now),
            R::Undrain { instance } => drain::own(self, runner, *instance, Way::Undrain, now),
            R::Leave => Ok(enrol::leave(self, runner, now)),
            R::TakenOver { from } => Ok(host::taken_over(self, runner, *from, now)),
            R::CopyRefused { first, from } => Ok(host::copy_refused(self, runner, first, *from, now)),
        }
    }
}

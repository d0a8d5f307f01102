//! The fixed values of labels.

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub(crate) enum $name {
                $($(#[$about])* $variant,)*
            }

            impl $name {
                pub(super) const ALL: &[Self] = &[$(Self::$variant),*];

                pub(super) const fn word(self) -> &'static str {
                    match self {
                        $(Self::$variant => $word,)*
                    }
                }
            }
        )*
    };
}

words! {
    /// How a command has ended.
    Verdict {
        /// It was carried out.
        Done = "done",
        /// The model refuses it.
        Refused = "refused",
        /// The store or the coordinator failed.
        Failed = "failed",
    }

    /// Why a stream has ended.
    Closed {
        /// The connection broke, or the agent closed it.
        Ended = "ended",
        /// The agent was silent, or read nothing.
        Silence = "silence",
        /// A newer stream of the runner has replaced it.
        Replaced = "replaced",
        /// The runner was removed.
        Removed = "removed",
        /// The agent has broken a rule, or is a copy.
        Protocol = "protocol",
        /// Other connections needed its place.
        NoPlace = "no_place",
        /// The coordinator is ending.
        Shutdown = "shutdown",
    }

    /// How a view was sent.
    ViewKind {
        /// Whole.
        Snapshot = "snapshot",
        /// As what differs from the one before.
        Delta = "delta",
    }

    /// Whose secret a request has shown.
    Secret {
        /// An administrator's token.
        Admin = "admin",
        /// A runner's credential.
        Runner = "runner",
        /// A join token.
        Join = "join",
        /// A relay's token or credential.
        Relay = "relay",
    }

    /// What has become of a request to enrol.
    Enrolment {
        /// A new runner.
        New = "new",
        /// The same machine again.
        Again = "again",
        /// A runner of the same name was replaced.
        Replaced = "replaced",
        /// It was refused.
        Refused = "refused",
    }
}

//! Every patience of the lifecycle. What a question to the coordinator may take is the control stream's own (ten seconds).

use std::time::Duration;

/// How long an attachment waits for a coordinator that is just being connected to.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// How long the view that holds a new instance may take to come.
pub(crate) const VIEW: Duration = Duration::from_secs(5);
/// How long a view may take to come into force.
pub(crate) const APPLY: Duration = Duration::from_secs(2);
/// How long the end of a stream may take to show, after a question has stayed without an answer.
pub(crate) const AWAY: Duration = Duration::from_secs(1);
/// How long the end of an instance that is to be taken over may take.
pub(crate) const TAKE_OVER: Duration = Duration::from_secs(5);
/// How long a hosts file that another service keeps is waited for: the end of that one may not have been heard of yet.
pub(crate) const HOSTS_UNHEARD: Duration = Duration::from_secs(2);
/// The same while that one is being taken out, which a silent coordinator delays.
pub(crate) const HOSTS_ENDING: Duration = Duration::from_secs(15);
/// How long an agent that starts waits for the hosts files of the one before.
pub(crate) const HOSTS_AT_START: Duration = Duration::from_secs(2);
/// How long until a hosts file that can't be had is tried again; doubled each time, up to [`HOSTS_LATE`].
pub(crate) const HOSTS_SOON: Duration = Duration::from_millis(50);
/// The longest that this becomes.
pub(crate) const HOSTS_LATE: Duration = Duration::from_secs(10);
/// How often every namespace is looked at, in case that a change was not heard.
pub(crate) const ROUND: Duration = Duration::from_secs(60);
/// The same where no change can be heard.
pub(crate) const DEAF_ROUND: Duration = Duration::from_secs(5);
/// How long after more changes than could be heard all namespaces are looked at.
pub(crate) const LOST_ROUND: Duration = Duration::from_secs(5);

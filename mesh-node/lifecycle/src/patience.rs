//! Every patience of the lifecycle. How long a question to the coordinator may take (ten seconds) is up to the control
//! stream.

use std::time::Duration;

/// How long an attachment waits for the stream to the coordinator.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// How long the view that holds a new instance may take to come.
pub(crate) const VIEW: Duration = Duration::from_secs(5);
/// How long a view may take to come into force.
pub(crate) const APPLY: Duration = Duration::from_secs(2);
/// How long the end of a stream may take to show after a question had no answer.
pub(crate) const AWAY: Duration = Duration::from_secs(1);
/// How long the end of an instance that is to be taken over may take.
pub(crate) const TAKE_OVER: Duration = Duration::from_secs(5);
/// How long to wait for a hosts file that another service keeps: the end of its instance may not have been heard yet.
pub(crate) const HOSTS_UNHEARD: Duration = Duration::from_secs(2);
/// The same while that instance is being taken out, which a silent coordinator delays.
pub(crate) const HOSTS_ENDING: Duration = Duration::from_secs(15);
/// How long the start of the agent waits for the instances and containers of the earlier one.
pub(crate) const TAKE_UP: Duration = Duration::from_secs(10);
/// How long the start of the agent waits for the hosts files of the earlier one.
pub(crate) const HOSTS_AT_START: Duration = Duration::from_secs(2);
/// The first pause before another attempt at a hosts file. It doubles each time, up to [`HOSTS_LATE`].
pub(crate) const HOSTS_SOON: Duration = Duration::from_millis(50);
/// The longest such pause.
pub(crate) const HOSTS_LATE: Duration = Duration::from_secs(10);
/// How often every namespace is looked at, in case a change was not heard.
pub(crate) const ROUND: Duration = Duration::from_secs(60);
/// The same where no change can be heard.
pub(crate) const DEAF_ROUND: Duration = Duration::from_secs(5);
/// How long after more changes than could be heard all namespaces are looked at.
pub(crate) const LOST_ROUND: Duration = Duration::from_secs(5);

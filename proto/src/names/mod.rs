//! Names: how a service is called. Host names and environment variables made from service names, the table of all names
//! that a service's instances see, and the checks that keep two services from being called the same.

mod check;
mod encode;
mod forms;
mod table;

pub use check::{Candidate, DeclarationError, Scope, check};
pub use encode::{HostNameError, host_label, is_identifier, shell_variable, variable};
pub use forms::{BadHostName, check_host_name};
pub use table::{Names, names};

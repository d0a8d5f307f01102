//! Names of services: host names and environment variables made from service names, the table of all names that a
//! service's instances see, and the checks that no two services of a deployment share a name.

mod check;
mod claim;
mod encode;
mod forms;
mod limit;
mod table;
mod variables;

pub use check::{Candidate, DeclarationError, Scope, check};
pub use encode::{HostNameError, host_label, is_identifier, shell_variable, variable};
pub use forms::{BadHostName, check_host_name, is_number, is_reserved};
pub use limit::LIMIT;
pub use table::{Names, hosts, may_name, names};
pub use variables::{BadVariable, check_given_variable, check_variable};

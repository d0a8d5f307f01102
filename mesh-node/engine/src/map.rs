//! A compiled view, for the look-ups of the data path.

use mesh_proto::{Revision, View};

use crate::{filter::Filter, route::Route};

/// A compiled [`View`]. Any thread can compile it; [`crate::Engine::handle_map`] takes it.
#[derive(Debug, Clone)]
pub struct Map {
    revision: Revision,
    pub(crate) mtu: usize,
    pub(crate) route: Route,
    pub(crate) filter: Filter,
}

impl Map {
    /// Compiles a view, in time proportional to its size.
    #[must_use]
    pub fn compile(view: &View) -> Self {
        let route = Route::compile(view);
        let filter = Filter::compile(view, &route.services);
        Self { revision: view.revision, mtu: usize::from(view.network.mtu), route, filter }
    }

    /// The map without any addresses.
    pub(crate) fn empty() -> Self {
        Self { revision: Revision(0), mtu: 0, route: Route::default(), filter: Filter::default() }
    }

    /// The view's revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }
}

//! The compiled view: what the data path looks things up in.

use mesh_proto::{Revision, View};

use crate::{filter::Filter, route::Route};

/// A [`View`], made ready for look-ups. Compiled on any thread, then handed to [`crate::Engine::handle_map`].
#[derive(Debug, Clone)]
pub struct Map {
    revision: Revision,
    pub(crate) mtu: usize,
    pub(crate) route: Route,
    pub(crate) filter: Filter,
}

impl Map {
    /// Compiles a view. Takes time in proportion to the view's size.
    #[must_use]
    pub fn compile(view: &View) -> Self {
        let route = Route::compile(view);
        let filter = Filter::compile(view, &route.services);
        Self { revision: view.revision, mtu: usize::from(view.network.mtu), route, filter }
    }

    /// The map in which there is nobody.
    pub(crate) fn nobody() -> Self {
        Self { revision: Revision(0), mtu: 0, route: Route::default(), filter: Filter::default() }
    }

    /// The view's revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }
}

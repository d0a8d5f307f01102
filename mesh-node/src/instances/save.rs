//! Remembers the instances: one write at a time, always of the newest.

use std::sync::Arc;

use mesh_lifecycle::Input;

use super::{blocking::blocking, shell::Shell, store};

impl Shell {
    /// Begins to write what is to be remembered, unless something is being written.
    pub(super) fn save(&mut self) {
        let Some(save) = self.saving.begin() else { return };
        let remembered = self.remembered();
        let parts = Arc::clone(&self.parts);
        self.spawn(async move {
            // What can't be remembered works nevertheless, until the agent restarts.
            if let Err(error) = blocking(move || store::save(&parts.state, &remembered)).await {
                tracing::warn!(%error, "cannot remember the instances: a restart of the agent would lose the latest changes");
            }
            move |shell: &mut Self| {
                shell.saving.end();
                shell.happened(Input::Saved(save));
            }
        });
    }
}

//! `scripts/bench --herd`: what a coordinator costs with thousands of runners. A real `mesh-coord serve` on one core
//! against simulated agents over TLS and WebSockets from the others: memory, processor time, and how long a change takes
//! until all runners that it concerns have applied it.
//!
//! The program under test is `$MESH_COORD`. The records are written into its database between two starts.

mod agent;
mod arguments;
mod changes;
mod coordinator;
mod mesh;
mod phase;
mod reporting;
mod table;
mod tls;

use std::{path::Path, process::ExitCode, rc::Rc};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{runtime::Builder, task::LocalSet};

use crate::{
    agent::Herd,
    arguments::Arguments,
    coordinator::Coordinator,
    mesh::Mesh,
    phase::{Phase, Run},
};

fn main() -> ExitCode {
    let arguments = match Arguments::given() {
        Ok(arguments) => arguments,
        Err(said) => {
            eprintln!("{said}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    coordinator::leave_a_core();
    // Each agent has a connection.
    let _ = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    let mut columns = Vec::new();
    for runners in &arguments.runners {
        match measure(*runners, &arguments) {
            Ok(run) => columns.push(run),
            Err(wrong) => {
                eprintln!("{runners} runners: {wrong}");
                return ExitCode::FAILURE;
            }
        }
    }
    print!("{}", table::text(&columns));
    if let Some(file) = &arguments.json
        && let Err(wrong) = std::fs::write(file, table::json(&columns).to_string())
    {
        eprintln!("{}: {wrong}", file.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// All phases with so many runners.
fn measure(runners: usize, arguments: &Arguments) -> Result<Run, String> {
    let data = std::env::temp_dir().join(format!("mesh-herd-{}-{runners}", std::process::id()));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let run = LocalSet::new().block_on(&runtime, phases(runners, arguments, &data));
    let _ = std::fs::remove_dir_all(&data);
    run
}

async fn phases(runners: usize, arguments: &Arguments, data: &Path) -> Result<Run, String> {
    let mesh = Mesh::of(runners);
    // Makes its keys and an empty database.
    Coordinator::start(data).await?.stop().await?;
    let records = mesh.write(&data.join(mesh::DATABASE))?;
    eprintln!("{runners} runners: {records} records are written");
    let mut run = Run::new(&mesh, records);

    let mut coordinator = Coordinator::start(data).await?;
    run.add(Phase::start(&coordinator));
    let herd = Rc::new(Herd::new(mesh, arguments.edges));
    run.add(Phase::connect("all connect, with no view", &coordinator, &herd, || herd.start()).await?);
    run.add(Phase::idle(&coordinator, &herd, arguments.idle).await?);
    if arguments.edges > 0 {
        run.add(
            Phase::reports("reports while nothing is watched", &coordinator, &herd, arguments.idle * 6, false).await?,
        );
        run.add(
            Phase::reports("reports while an operator watches", &coordinator, &herd, arguments.idle * 2, true).await?,
        );
        for (name, path) in phase::LOOKS {
            run.add(Phase::look(name, path, &coordinator).await?);
        }
    }
    for kind in changes::Kind::ALL {
        run.add_changes(changes::measure(kind, arguments.changes, &coordinator, &herd).await?);
    }
    run.add(Phase::memory("after the changes", &coordinator));

    herd.coordinator_at(None);
    coordinator.stop().await?;
    coordinator = Coordinator::start(data).await?;
    run.add(Phase::connect("all come back, nothing new", &coordinator, &herd, || ()).await?);

    if arguments.absent {
        herd.coordinator_at(None);
        coordinator.stop().await?;
        herd.send_away();
        coordinator = Coordinator::start(data).await?;
        run.add(Phase::connect("four fifths come back", &coordinator, &herd, || ()).await?);
        run.add(Phase::absent(&coordinator, &herd).await?);
    }
    coordinator.stop().await?;
    Ok(run)
}

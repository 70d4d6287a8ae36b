//! The program `testbed`: both stand-ins for people, and the loader for etcd.
//!
//! Data and instructions go to stdout, errors to stderr. It ends with 1 when something failed, with 2 when its command
//! line is wrong.

mod cli;
mod files;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is closed, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        None => serve::serve(cli.serve).await,
        Some(Command::LoadEtcd { endpoint, fleet }) => {
            let fleet = fleet.fleet(Vec::new());
            let objects = tokio::task::spawn_blocking(move || fleet.objects()).await?;
            let count = testbed::etcd::load(&endpoint, &objects).await?;
            writeln!(std::io::stdout(), "{count} objects written to etcd at {endpoint}")?;
            Ok(())
        }
    }
}

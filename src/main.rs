//! The program `anchore-k8s-inventory`.

use std::process;

use anchore_k8s_inventory::agent::{self, RunOptions};
use anchore_k8s_inventory::cli::{self, ExitCode, Invocation, completion, config_command, version};
use anchore_k8s_inventory::config::{self, Environment, Mode, Overrides};
use anchore_k8s_inventory::output::OutputFormat;
use anchore_k8s_inventory::output::progress::Console;
use anchore_k8s_inventory::telemetry;

fn main() -> process::ExitCode {
    // Fails only when there is a provider already, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(code) = completion::answer() {
        return code.into();
    }
    let code = match cli::read(std::env::args_os()) {
        Ok(Invocation::Report { overrides, output, dry_run }) => report(&overrides, output, dry_run),
        Ok(Invocation::Version) => version::run(),
        Ok(Invocation::Completion(shell)) => completion::print_script(shell),
        Ok(Invocation::ConfigCheck(overrides)) => config_command::check(&overrides),
        Ok(Invocation::ConfigShow(overrides)) => config_command::show(&overrides),
        Err(code) => code,
    };
    code.into()
}

/// Settings, logging, then the work: wrong settings never half-start.
fn report(overrides: &Overrides, output: Option<OutputFormat>, dry_run: bool) -> ExitCode {
    let environment = Environment::from_process();
    let loaded = match config::load(overrides, &environment) {
        Ok(loaded) => loaded,
        Err(error) => return cli::fail(ExitCode::Usage, &error),
    };
    if loaded.config.mode == Mode::Periodic && (output.is_some() || dry_run) {
        let reason = "--output and --dry-run look at one report: use them with --mode adhoc";
        return cli::fail(ExitCode::Usage, &reason);
    }
    let console = if loaded.config.log.quiet { Console::without_progress() } else { Console::new() };
    if let Err(error) = telemetry::start(&loaded.config.log, &console) {
        return cli::fail(ExitCode::Usage, &error);
    }
    if let Some(file) = &loaded.file {
        tracing::debug!(file = %file.display(), "configuration file read");
    } else {
        tracing::debug!("no configuration file found");
    }
    for warning in &loaded.warnings {
        tracing::warn!(problem = %warning, "the configuration may not mean what was meant");
    }
    // One thread: handing each chunk of an answer to another one costs more than it gains. What may block, or serialises
    // megabytes, has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(ExitCode::Failure, &error),
    };
    let code = runtime.block_on(agent::run(loaded, environment, RunOptions { output, dry_run, console }));
    // A look-up of a name or a credential plugin may hang; nothing that is left can change how this run ended.
    runtime.shutdown_background();
    code
}

//! Running other programs, with errors that say which one, where and how it ended.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command whose output belongs to the user.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("failed to start {}", shown(command)))?;
    if !status.success() {
        bail!("failed to run {}: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output; what it said on standard error is kept for the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    finished(command.stdin(Stdio::null()).output(), command)
}

/// Runs a command and returns its standard output, while its standard error goes to the user.
pub(crate) fn output_with_progress(command: &mut Command) -> Result<String> {
    finished(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).output(), command)
}

fn finished(output: std::io::Result<Output>, command: &Command) -> Result<String> {
    let output = output.with_context(|| format!("failed to start {}", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        let said = if said.is_empty() { String::new() } else { format!(", it said:\n{said}") };
        bail!("failed to run {}: {}{said}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("failed to read the output of {}", shown(command)))
}

fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    match command.get_current_dir() {
        Some(dir) => format!("`{line}` in {}", dir.display()),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_keeps_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo lost >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("`sh -c") && error.contains("exit status: 3") && error.contains("lost"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("/nowhere/at-all")).unwrap_err().to_string();
        assert_eq!(error, "failed to start `/nowhere/at-all`");
    }
}

//! Of `skiff exec` and `skiff port-forward`.

use std::net::IpAddr;
use std::str::FromStr;

use clap::Parser;

use super::NamespaceArgs;

#[derive(Debug, Parser)]
pub(crate) struct ExecArgs {
    /// Pass standard input on to the command, until it ends
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// SERVICE, service/NAME or replica/NAME; of a service, its first replica that runs
    pub target: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Parser)]
pub(crate) struct PortForwardArgs {
    /// SERVICE, service/NAME or replica/NAME; of a service, its first replica that runs
    pub target: String,
    /// PORT, or LOCAL:PORT; LOCAL 0, or nothing before the colon, takes a free one. A component has no ports: any is HTTP
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    pub ports: Vec<Forward>,
    /// The address of this machine to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub address: IpAddr,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

/// A port here, and the one that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    pub local: u16,
    pub remote: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            text.parse::<u16>().map_err(|_| format!("{text:?} is no port (hint: write 8080 or 9000:8080)"))
        };
        let (local, remote) = match text.split_once(':') {
            Some(("", remote)) => (0, port(remote)?),
            Some((local, remote)) => (port(local)?, port(remote)?),
            None => (port(text)?, port(text)?),
        };
        if remote == 0 {
            return Err("0 is no port to connect to (hint: write the one that the program listens on)".to_owned());
        }
        Ok(Self { local, remote })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        let read = |text: &str| text.parse::<Forward>().ok().map(|Forward { local, remote }| (local, remote));
        assert_eq!(
            [read("80"), read("8080:80"), read(":80"), read("0:80")],
            [Some((80, 80)), Some((8080, 80)), Some((0, 80)), Some((0, 80))]
        );
        for bad in ["", "http", "80:", "0", "70000", "1:2:3", "80:0"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

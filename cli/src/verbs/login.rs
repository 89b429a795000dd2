//! `skiff login` and `skiff logout`.
//!
//! Without a registry it is about the control plane: whoever has its token can use it and its registry. With one it is
//! docker's login to that registry, kept in docker's file, so that each of the tools finds what another has stored.

use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use skiff_api::Kind;
use skiff_api::client::ListQuery;
use skiff_api::client::Scope;
use skiff_registry::client::Credential;
use skiff_registry::{Client, ClientOptions};

use crate::Outcome;
use crate::args::{LoginArgs, LogoutArgs, ServerArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::logins::DockerLogins;

/// A password or token is shorter than a page.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What docker is told that the token's user is called.
const TOKEN_USER: &str = "token";

pub(super) async fn login(server: &ServerArgs, args: LoginArgs) -> Outcome {
    match &args.registry {
        Some(registry) => to_registry(registry, &args).await?,
        None => to_cluster(server, &args).await?,
    }
    println!("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn logout(server: &ServerArgs, args: LogoutArgs) -> Outcome {
    if let Some(registry) = &args.registry {
        forget(registry)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.docker {
        forget(&address(&Context::find(server)?))?;
    }
    match Context::forget()? {
        Some(context) => println!("Removing login credentials for {}", context.server),
        None => println!("Not logged in to a control plane"),
    }
    Ok(ExitCode::SUCCESS)
}

fn forget(registry: &str) -> Result<(), Failure> {
    match DockerLogins::open()?.remove(registry)? {
        true => println!("Removing login credentials for {registry}"),
        false => println!("Not logged in to {registry}"),
    }
    Ok(())
}

async fn to_cluster(server: &ServerArgs, args: &LoginArgs) -> Result<(), Failure> {
    let mut context = match (&server.server, args.password_stdin) {
        // The token comes from elsewhere, so the stored CA need not be that server's.
        (Some(_), true) => Context::find(&ServerArgs { token: Some(String::new()), ..server.clone() })?,
        _ => Context::find(server)?,
    };
    if args.password_stdin {
        context.token = secret_from_stdin()?;
    }
    // The cheapest question that needs the token.
    let asked = context.client()?.list_values(Kind::Namespace, &Scope::All, &ListQuery::default()).await;
    asked.map_err(|error| Failure::from(error).during(format!("failed to log in to {}", context.server)))?;
    context.write()?;
    if args.docker {
        let registry = address(&context);
        DockerLogins::open()?.store(&registry, TOKEN_USER, &context.token)?;
        if let Some(ca) = context.write_ca()? {
            let (ca, folder) = (ca.display(), format!("/etc/docker/certs.d/{registry}"));
            eprintln!("docker also needs the cluster's CA: sudo install -D -m 644 {ca} {folder}/ca.crt");
        }
    }
    Ok(())
}

/// The registry's address, as images name it.
fn address(context: &Context) -> String {
    let bare = context.server.split_once("://").map_or(context.server.as_str(), |(_, bare)| bare);
    bare.trim_end_matches('/').to_owned()
}

async fn to_registry(registry: &str, args: &LoginArgs) -> Result<(), Failure> {
    let failed = |why: &str| Failure::message(Exit::Invalid, format!("failed to log in to {registry}: {why}"));
    let named = format!("{registry}/x").parse::<skiff_api::ImageRef>();
    if !named.is_ok_and(|image| image.registry() == Some(registry)) {
        return Err(failed("this is not a registry (hint: write HOST or HOST:PORT, as images have it)"));
    }
    let user = args.username.clone().ok_or_else(|| failed("who? (hint: name the user with --username)"))?;
    if user.contains(':') {
        return Err(failed("a user's name has no colon"));
    }
    let password = match args.password_stdin {
        true => secret_from_stdin()?,
        false if io::stdin().is_terminal() => rpassword::prompt_password("Password: ")
            .map_err(|error| failed(&format!("the password cannot be read: {error}")))?,
        false => return Err(failed("there is no terminal to ask for the password (hint: --password-stdin)")),
    };
    if password.is_empty() {
        return Err(failed("the password is empty"));
    }
    let login = Credential::Password { user: user.clone(), password: password.clone() };
    Client::new(ClientOptions::foreign(registry, args.plain.plain_http, Some(login)))?.check_login().await?;
    let logins = DockerLogins::open()?;
    let path = logins.path().display().to_string();
    logins.store(registry, &user, &password)?;
    eprintln!("the login is in {path}");
    Ok(())
}

/// All of standard input, without the line end that tools put there.
fn secret_from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(SECRET_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::message(Exit::Invalid, format!("failed to read standard input: {error}")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

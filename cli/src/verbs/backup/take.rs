//! `skiff backup FILE`: the control plane's answer, in a file.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt;
use skiff_disk::{Disk, Mode};

use crate::Outcome;
use crate::args::BackupArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub(in crate::verbs) async fn run(context: &Context, args: BackupArgs) -> Outcome {
    let disk = Disk::real();
    let file = args.file;
    if file.is_dir() {
        let text = format!("failed to back up to {}: it is a folder (hint: name a file in it)", file.display());
        return Err(Failure::message(Exit::Invalid, text));
    }
    let mut part = file.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let taken = take(context, &disk, &part, &file).await;
    let taken = taken.and_then(|bytes| {
        disk.rename(&part, &file).map_err(|error| Failure::io("write", &file, error))?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let synced = disk.sync_dir(folder.unwrap_or(".".as_ref()));
        synced.map_err(|error| Failure::io("sync the folder of", &file, error))?;
        Ok(bytes)
    });
    match taken {
        Ok(bytes) => {
            println!("{} {bytes} bytes", file.display());
            eprintln!(
                "keep it as you keep a password: whoever has it can be the cluster's administrator, and any node"
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            // It may never have been made.
            let _ = disk.remove_file(&part);
            Err(failure)
        }
    }
}

/// Writes into `part` what is to become `file`.
async fn take(context: &Context, disk: &Disk, part: &Path, file: &Path) -> Result<u64, Failure> {
    let mut answer = pin!(context.client()?.backup().await?);
    let write = |error| Failure::io("write", file, error);
    let file = disk.open(part, Mode::CreateNew).map_err(write)?;
    let mut at = 0;
    while let Some(piece) = answer.next().await {
        let piece = piece?;
        file.write_at(&piece, at).map_err(write)?;
        at += piece.len() as u64;
    }
    file.sync().map_err(write)?;
    Ok(at)
}

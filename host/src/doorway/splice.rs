//! Bytes both ways, until both sides have said all, or neither says anything for too long.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, sleep_until};

/// Read at once.
const PIECE_BYTES: usize = 16 << 10;

/// Connections to databases rest for a while between two uses.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(3600);

pub(super) async fn splice<A, B>(near: A, far: B, silence: Duration)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (started, last_ms) = (Instant::now(), AtomicU64::new(0));
    let moved = || {
        let passed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        last_ms.store(passed, Ordering::Relaxed);
    };
    let ((near_reads, near_writes), (far_reads, far_writes)) = (split(near), split(far));
    let both = async {
        // One that fails ends the other.
        let _ = tokio::try_join!(copy(near_reads, far_writes, &moved), copy(far_reads, near_writes, &moved));
    };
    let silent = async {
        loop {
            let last = last_ms.load(Ordering::Relaxed);
            sleep_until(started + Duration::from_millis(last) + silence).await;
            if last_ms.load(Ordering::Relaxed) == last {
                return;
            }
        }
    };
    tokio::select! {
        () = both => {}
        () = silent => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &impl Fn()) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece).await?;
        moved();
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..count]).await?;
        moved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_lasts_as_long_as_somebody_speaks() {
        let silence = Duration::from_secs(60);
        let ((mut client, near), (far, mut server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let spliced = tokio::spawn(splice(near, far, silence));
        let mut said = [0; 2];
        for _ in 0..3 {
            tokio::time::sleep(silence / 2).await;
            client.write_all(b"hi").await.unwrap();
            server.read_exact(&mut said).await.unwrap();
        }
        // The one that has said all may still be told something.
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut said).await.unwrap(), 0);
        server.write_all(b"yo").await.unwrap();
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"yo");
        let since = Instant::now();
        spliced.await.unwrap();
        assert!((silence..silence * 2).contains(&since.elapsed()), "{:?}", since.elapsed());
        assert_eq!(client.read(&mut said).await.unwrap(), 0);
    }
}

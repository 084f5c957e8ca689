//! What a nexlet's process writes, line by line, for the node's log.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tracing::warn;

/// The longest line of output that is logged as one, in bytes; a longer one is cut into several.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// How long the output of a nexlet is still read after its end: a child of it may hold the pipe.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_millis(200);

/// Waits for a life's end and relays its output meanwhile, and what is left of it afterwards.
pub(super) async fn until<T>(life: impl Future<Output = T>, output: impl Future<Output = ()>) -> T {
    tokio::pin!(life, output);
    let mut open = true;
    let end = loop {
        tokio::select! {
            end = &mut life => break end,
            () = &mut output, if open => open = false,
        }
    };
    if open {
        tokio::time::timeout(LAST_OUTPUT_LIMIT, output).await.ok();
    }
    end
}

/// Hands each line of a stream to a log until the stream ends.
pub(super) async fn relay(stream: Option<impl AsyncRead + Unpin>, log: impl FnMut(&str)) {
    let Some(stream) = stream else { return };
    if let Err(error) = lines(stream, log).await {
        warn!(%error, "failed to read the output of a nexlet");
    }
}

/// Hands on each line, without its end; a very long one in pieces.
async fn lines(mut stream: impl AsyncRead + Unpin, mut line: impl FnMut(&str)) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(4096);
    let mut hand_on = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        line(text.trim_end_matches('\r'));
    };
    loop {
        let open = stream.read_buf(&mut buffer).await? > 0;
        let mut start = 0;
        while let Some(length) = buffer[start..].iter().position(|byte| *byte == b'\n') {
            hand_on(&buffer[start..start + length]);
            start += length + 1;
        }
        buffer.drain(..start);
        if !buffer.is_empty() && (!open || buffer.len() >= MAX_LINE_BYTES) {
            hand_on(&buffer);
            buffer.clear();
        }
        if !open {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<String> {
        let mut read = Vec::new();
        lines(bytes, |line| read.push(line.to_owned()))
            .await
            .unwrap();
        read
    }

    #[tokio::test]
    async fn output_becomes_lines() {
        assert_eq!(read(b"one\ntwo\r\n\nend").await, ["one", "two", "", "end"]);
        assert!(read(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_takes_bounded_memory() {
        let read = read(&[b'x'; 3 * MAX_LINE_BYTES]).await;

        assert!(read.len() >= 2, "{}", read.len());
        assert!(read.iter().all(|line| line.len() < 2 * MAX_LINE_BYTES));
        let total: usize = read.iter().map(String::len).sum();
        assert_eq!(total, 3 * MAX_LINE_BYTES);
    }
}

//! An HTTP server for tests of clients: on a port of its own, each answer from a function.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long a client may take to send its request.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct WebRequest {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// All lines after the first, as they came.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl WebServer {
    /// Starts one on 127.0.0.1. `answer` returns the whole answer, as it goes over the wire; the
    /// connection is closed after it.
    ///
    /// # Panics
    /// When the machine has no port or no thread left.
    pub fn start(answer: impl Fn(&WebRequest) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a machine has a free port");
        let address = listener.local_addr().expect("it is bound");
        let ended = Arc::new(AtomicBool::new(false));
        let ended_seen = Arc::clone(&ended);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended_seen.load(Ordering::Relaxed) {
                    break;
                }
                // A client that goes away is its own business.
                stream.and_then(|stream| serve(stream, &answer)).ok();
            }
        });
        Self { address, ended }
    }

    /// Where it listens, `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It waits for a connection: this is the last one.
        TcpStream::connect(self.address).ok();
    }
}

fn serve(mut stream: TcpStream, answer: impl Fn(&WebRequest) -> Vec<u8>) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        more(&mut stream, &mut bytes)?;
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let headers: Vec<String> = lines.map(ToOwned::to_owned).collect();
    let length = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let length = name.eq_ignore_ascii_case("content-length");
        length.then(|| value.trim().parse().ok())?
    });
    let end = head_end + 4 + length.unwrap_or(0);
    while bytes.len() < end {
        more(&mut stream, &mut bytes)?;
    }
    let request = WebRequest {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        headers,
        body: bytes[head_end + 4..end].to_vec(),
    };
    stream.write_all(&answer(&request))
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            bytes.extend_from_slice(&buffer[..count]);
            Ok(())
        }
    }
}

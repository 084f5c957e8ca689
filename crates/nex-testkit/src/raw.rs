//! A connection to NATS without a client library, for what no library would send.

use std::io;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// A client that says to the server, without a look at it, what a test wants said.
#[derive(Debug)]
pub struct RawNats {
    stream: BufReader<TcpStream>,
    subscriptions: u64,
}

/// What came on a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// Where it was published.
    pub subject: String,
    /// Where an answer is wanted, if one is.
    pub reply: Option<String>,
    /// The header block, or nothing.
    pub headers: Vec<u8>,
    /// The rest.
    pub payload: Vec<u8>,
}

fn strange(line: &str) -> io::Error {
    io::Error::other(format!("the server said {line:?}"))
}

impl RawNats {
    /// Connects to a server that asks for no credentials.
    ///
    /// # Errors
    /// When there is none at `nats://<host>:<port>`, or it refuses.
    pub async fn connect(url: &str) -> io::Result<Self> {
        let address = url.trim_start_matches("nats://");
        let stream = BufReader::new(TcpStream::connect(address).await?);
        let mut raw = Self {
            stream,
            subscriptions: 0,
        };
        let info = raw.line().await?;
        if !info.starts_with("INFO ") {
            return Err(strange(&info));
        }
        let options = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
        raw.send(format!("CONNECT {options}\r\n").as_bytes())
            .await?;
        raw.barrier().await?;
        Ok(raw)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Publishes; with a header block that is sent as it is.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&[u8]>,
        payload: &[u8],
    ) -> io::Result<()> {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let size = payload.len();
        let mut message = match headers {
            None => format!("PUB {subject} {reply}{size}\r\n").into_bytes(),
            Some(headers) => {
                let (first, all) = (headers.len(), headers.len() + size);
                let mut message = format!("HPUB {subject} {reply}{first} {all}\r\n").into_bytes();
                message.extend_from_slice(headers);
                message
            }
        };
        message.extend_from_slice(payload);
        message.extend_from_slice(b"\r\n");
        self.send(&message).await
    }

    /// Subscribes; the server knows of it when this returns.
    ///
    /// # Errors
    /// As [`barrier`](Self::barrier).
    pub async fn subscribe(&mut self, subject: &str) -> io::Result<()> {
        self.subscriptions += 1;
        let subscribe = format!("SUB {subject} {}\r\n", self.subscriptions);
        self.send(subscribe.as_bytes()).await?;
        self.barrier().await
    }

    /// Waits until the server has read everything that was sent before. To be used while no
    /// message can come.
    ///
    /// # Errors
    /// When the connection is gone, or the server says something else, a refusal perhaps.
    pub async fn barrier(&mut self) -> io::Result<()> {
        self.send(b"PING\r\n").await?;
        match self.line().await?.as_str() {
            "PONG" => Ok(()),
            other => Err(strange(other)),
        }
    }

    /// The next message of any subscription.
    ///
    /// # Errors
    /// When the connection is gone, or the server says something else.
    pub async fn next(&mut self) -> io::Result<RawMessage> {
        let line = loop {
            let line = self.line().await?;
            if line != "PING" {
                break line;
            }
            self.send(b"PONG\r\n").await?;
        };
        let fields: Vec<&str> = line.split(' ').collect();
        let (subject, reply, headers, all) = match fields.as_slice() {
            ["MSG", subject, _, all] => (subject, None, "0", all),
            ["MSG", subject, _, reply, all] => (subject, Some(reply), "0", all),
            ["HMSG", subject, _, headers, all] => (subject, None, *headers, all),
            ["HMSG", subject, _, reply, headers, all] => (subject, Some(reply), *headers, all),
            _ => return Err(strange(&line)),
        };
        let size = |text: &str| text.parse::<usize>().map_err(|_| strange(&line));
        let (headers, all) = (size(headers)?, size(all)?);
        let (subject, reply) = ((*subject).to_owned(), reply.map(ToString::to_string));
        let mut bytes = vec![0; all + 2];
        self.stream.read_exact(&mut bytes).await?;
        bytes.truncate(all);
        let payload = bytes.split_off(headers);
        Ok(RawMessage {
            subject,
            reply,
            headers: bytes,
            payload,
        })
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NatsServer;

    #[tokio::test]
    async fn messages_arrive_as_they_were_sent() {
        let server = NatsServer::start();
        let mut raw = RawNats::connect(server.url()).await.unwrap();
        raw.subscribe("place").await.unwrap();
        let headers = b"NATS/1.0\r\nNo colon \xff\r\n\r\n";

        raw.publish("place", Some("back"), Some(headers), b"\0\r\n\xff")
            .await
            .unwrap();
        raw.publish("place", None, None, b"").await.unwrap();

        let wanted = RawMessage {
            subject: "place".into(),
            reply: Some("back".into()),
            headers: headers.to_vec(),
            payload: b"\0\r\n\xff".to_vec(),
        };
        assert_eq!(raw.next().await.unwrap(), wanted);
        let plain = raw.next().await.unwrap();
        assert_eq!((plain.reply, plain.payload), (None, Vec::new()));
    }

    #[tokio::test]
    async fn a_refusal_of_the_server_is_told() {
        let server = NatsServer::start();
        let mut raw = RawNats::connect(server.url()).await.unwrap();

        raw.send(b"NONSENSE\r\n").await.unwrap();
        let refused = raw.barrier().await.unwrap_err();

        assert!(refused.to_string().contains("-ERR"), "{refused}");
    }
}

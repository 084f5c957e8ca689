//! The HTTP client of functions: bounded, and only to addresses that they may reach.
//!
//! A name is resolved once for each request, and the connection goes to one of the very addresses
//! that were checked: a name that resolves to another one a moment later changes nothing. One that
//! is [open already](idle) is used if it leads to such an address. Each redirect is checked like a
//! request of its own. Certificates are always checked.

mod address;
mod connect;
mod idle;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use tokio::time::timeout;
use url::Url;

pub(super) use self::address::{Network, network};
use self::connect::{Connected, Connector};
use super::{
    error::{ServiceCode, ServiceError},
    grants::Grants,
};

/// How long a request takes at most, with all its redirects.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// The largest body of an answer, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 8 * 1024;
/// Who we are, where the function does not say.
const USER_AGENT: &str = concat!("nex/", env!("CARGO_PKG_VERSION"));

/// Headers that the client sets itself: with others, the two ends could disagree on where a message
/// ends or for whom it is.
const OWN_HEADERS: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
];

/// A call to a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// The URL, `http` or `https`.
    pub url: String,
    /// Added to the query of the URL.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body; nothing is sent for an empty one.
    pub body: Bytes,
}

/// What a URL answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The URL that answered: where the last redirect led.
    pub url: String,
    /// The headers, in order, as often as they came. Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Calls URLs.
#[derive(Debug, Default)]
pub(crate) struct HttpClient {
    connector: Connector,
}

/// A request that has been checked.
struct Hop {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

impl HttpClient {
    /// Calls a URL, as far as the grants allow. Cancel safe: a call that is dropped is cut off.
    pub(super) async fn call(
        &self,
        grants: &Grants,
        request: HttpRequest,
    ) -> Result<HttpResponse, ServiceError> {
        match timeout(REQUEST_TIMEOUT, self.follow(grants, request)).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                let text = format!("no whole answer within {REQUEST_TIMEOUT:?}");
                Err(ServiceError::new(ServiceCode::Timeout, text))
            }
        }
    }

    async fn follow(
        &self,
        grants: &Grants,
        request: HttpRequest,
    ) -> Result<HttpResponse, ServiceError> {
        let mut hop = Hop::new(request)?;
        for _ in 0..=MAX_REDIRECTS {
            let (response, connected) = self.send(grants, &hop).await?;
            let Some(url) = redirect(&hop.url, &response)? else {
                let read = read(&hop.url, response).await?;
                self.connector.keep(connected);
                return Ok(read);
            };
            hop.go_on(response.status(), url);
        }
        let text = format!("more than {MAX_REDIRECTS} redirects");
        Err(ServiceError::new(ServiceCode::RemoteError, text))
    }

    async fn send(
        &self,
        grants: &Grants,
        hop: &Hop,
    ) -> Result<(Response<Incoming>, Connected), ServiceError> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            ServiceError::unavailable(&format!("failed to call `{}`", shown(&hop.url)), error)
        };
        let target = self.connector.target(grants, &hop.url).await?;
        // The server may close an open connection at any moment. What can be sent twice is sent again
        // on a new one then; what cannot always has a new one.
        let mut open = match hop.method.is_idempotent() {
            true => self.connector.open_one(&target),
            false => None,
        };
        loop {
            let reused = open.is_some();
            let mut connected = match open.take() {
                Some(connected) => connected,
                None => self.connector.connect(&target, &hop.url).await?,
            };
            let request = hop.request().map_err(|error| unreachable(&error))?;
            match connected.sender.send_request(request).await {
                Ok(response) => return Ok((response, connected)),
                Err(error) if !reused => return Err(unreachable(&error)),
                Err(_closed) => {}
            }
        }
    }
}

impl Hop {
    fn new(request: HttpRequest) -> Result<Self, ServiceError> {
        let bad = |text: String| ServiceError::new(ServiceCode::BadRequest, text);
        if request.url.len() > MAX_URL_BYTES {
            return Err(bad(format!("the URL is longer than {MAX_URL_BYTES} bytes")));
        }
        let mut url: Url = request
            .url
            .parse()
            .map_err(|error| bad(format!("invalid URL `{}`: {error}", request.url)))?;
        check(&url)?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_invalid| bad(format!("invalid method `{}`", request.method)))?;
        if method == Method::CONNECT {
            return Err(bad("the method `CONNECT` is not for functions".to_owned()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if !request.body.is_empty() {
            let bytes = HeaderValue::from_static("application/octet-stream");
            headers.insert(header::CONTENT_TYPE, bytes);
        }
        for (name, value) in request.headers {
            let parsed: Result<HeaderName, _> = name.parse();
            let (Ok(parsed), Ok(value)) = (parsed, HeaderValue::from_str(&value)) else {
                return Err(bad(format!("invalid header `{name}`")));
            };
            if OWN_HEADERS.contains(&parsed) {
                return Err(bad(format!("the header `{name}` is set by the client")));
            }
            headers.insert(parsed, value);
        }
        Ok(Self {
            method,
            url,
            headers,
            body: request.body,
        })
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let path = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(path)
            .body(Full::new(self.body.clone()))?;
        let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        *request.headers_mut() = self.headers.clone();
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_str(host)?);
        Ok(request)
    }

    /// Turns to where a redirect leads, as browsers do.
    fn go_on(&mut self, status: StatusCode, url: Url) {
        let get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if get {
            self.method = Method::GET;
            self.body = Bytes::new();
            self.headers.remove(header::CONTENT_TYPE);
        }
        if self.url.origin() != url.origin() {
            // Meant for the first host only.
            for secret in [
                header::AUTHORIZATION,
                header::COOKIE,
                header::PROXY_AUTHORIZATION,
            ] {
                self.headers.remove(secret);
            }
        }
        self.url = url;
    }
}

/// Whether we can call a URL at all.
fn check(url: &Url) -> Result<(), ServiceError> {
    let problem = if !matches!(url.scheme(), "http" | "https") {
        "want `http://` or `https://`"
    } else if !url.username().is_empty() || url.password().is_some() {
        "a user and password belong into the header `authorization`"
    } else {
        return Ok(());
    };
    let text = format!("invalid URL `{}`: {problem}", shown(url));
    Err(ServiceError::new(ServiceCode::BadRequest, text))
}

/// A URL for messages: without what may be secret in it.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    let port = port.unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// Where a response leads, if it does.
fn redirect(url: &Url, response: &Response<Incoming>) -> Result<Option<Url>, ServiceError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else {
        return Ok(None);
    };
    let target = location.to_str().ok().and_then(|text| url.join(text).ok());
    let Some(target) = target else {
        let text = format!("`{}` leads to what is no URL", shown(url));
        return Err(ServiceError::new(ServiceCode::RemoteError, text));
    };
    check(&target)?;
    Ok(Some(target))
}

async fn read(url: &Url, response: Response<Incoming>) -> Result<HttpResponse, ServiceError> {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| {
            let what = format!("failed to read the answer of `{}`", shown(url));
            ServiceError::unavailable(&what, &error)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if body.len() + data.len() > MAX_BODY_BYTES {
            let text = format!(
                "the answer of `{}` has more than {MAX_BODY_BYTES} bytes",
                shown(url)
            );
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        body.extend_from_slice(&data);
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter();
    Ok(HttpResponse {
        status: head.status.as_u16(),
        url: url.to_string(),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: body.freeze(),
    })
}

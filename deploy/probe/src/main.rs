//! `countersign-probe`: whether a server of this container is well, for health checks of images that hold no shell and no curl.
//!
//! `http://ADDRESS/PATH` has to answer with a status from 200 to 299, `tcp://ADDRESS` to take a connection, each within two seconds.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(2);
const USAGE: &str = "usage: countersign-probe http://ADDRESS:PORT/PATH | tcp://ADDRESS:PORT";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(place), None) = (arguments.next(), arguments.next()) else {
        return say(USAGE, 2);
    };
    match probe(&place) {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => say("it is not well", 1),
        Some(Err(error)) => say(&error.to_string(), 1),
        None => say(USAGE, 2),
    }
}

/// Whether the server there is well; `None` when there is no such place.
fn probe(place: &str) -> Option<io::Result<bool>> {
    if let Some(address) = place.strip_prefix("tcp://") {
        return Some(connect(address.parse().ok()?).map(|_| true));
    }
    let (address, path) = place.strip_prefix("http://")?.split_once('/')?;
    Some(get(address.parse().ok()?, path))
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn get(address: SocketAddr, path: &str) -> io::Result<bool> {
    let mut stream = connect(address)?;
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    // `HTTP/1.1 2` is as much as there is to know.
    let mut head = [0; 10];
    stream.read_exact(&mut head)?;
    Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 2"))
}

fn say(what: &str, code: u8) -> ExitCode {
    drop(writeln!(io::stderr(), "{what}"));
    ExitCode::from(code)
}

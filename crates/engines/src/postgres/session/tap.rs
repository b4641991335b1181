//! Takes the rows of a `COPY … TO STDOUT` off the connection before the client library sees them: it would hold each
//! message whole in memory, however large a row is, and hand each row over by itself.
//!
//! A tap stands between the library and the socket, or between the library and TLS. It follows where messages begin and
//! end; while rows are taken it leaves those messages out of what the library reads. Everything else, errors and the end
//! of the rows too, passes in its order.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

/// What is read at once of statements and their answers.
const BUFFER_BYTES: usize = 8 << 10;
/// What is read at once of rows: more than a socket holds.
const ROWS_BUFFER_BYTES: usize = 256 << 10;
/// A message begins with its kind and its length, which counts itself.
const HEADER_BYTES: usize = 5;
const LENGTH_BYTES: u32 = 4;
/// The kind of a message with rows.
const ROWS: u8 = b'd';

/// What came from a server and was not read yet, shared by the stream and by who takes rows.
#[derive(Default)]
pub(super) struct Tap(Mutex<State>);

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// What of the buffer is not read yet.
    start: usize,
    end: usize,
    place: Place,
    /// Whether somebody takes rows.
    taking: bool,
}

/// Where the unread bytes begin.
#[derive(Debug, Clone, Copy, Default)]
enum Place {
    /// At the head of a message.
    #[default]
    Between,
    /// In a message that passes, with so many bytes of it left.
    Passing(u64),
    /// In a message with rows, with so many bytes of it left.
    Rows(u64),
}

/// What was there to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing.
    Nothing,
    /// All of it.
    All,
    /// Not all was wanted.
    Enough,
}

impl State {
    fn unread(&self) -> usize {
        self.end - self.start
    }

    /// Looks at the head of the next message, once it is there.
    fn look(&mut self) {
        if !matches!(self.place, Place::Between) {
            return;
        }
        let Some([kind, a, b, c, d]) = self.buffer[self.start..self.end].first_chunk::<HEADER_BYTES>() else {
            return;
        };
        let length = u32::from_be_bytes([*a, *b, *c, *d]);
        self.place = match length.checked_sub(LENGTH_BYTES) {
            Some(content) if self.taking && *kind == ROWS => {
                self.start += HEADER_BYTES;
                rows(u64::from(content))
            }
            Some(_) => Place::Passing(u64::from(length) + 1),
            // No message of this protocol: whatever it is, the library is to judge it.
            None => Place::Passing(u64::MAX),
        };
    }

    /// Passes over so many bytes of the current message.
    fn step(&mut self, count: usize) {
        self.start += count;
        self.place = match self.place {
            Place::Between => Place::Between,
            Place::Passing(left) => match left - count as u64 {
                0 => Place::Between,
                left => Place::Passing(left),
            },
            Place::Rows(left) => rows(left - count as u64),
        };
    }

    /// Returns how many bytes of the current message are there.
    fn there(&self, left: u64) -> usize {
        usize::try_from(left).unwrap_or(usize::MAX).min(self.unread())
    }

    /// Makes room behind what is unread, which is a part of a head at most.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let size = if self.taking { ROWS_BUFFER_BYTES } else { BUFFER_BYTES };
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
    }
}

fn rows(left: u64) -> Place {
    if left == 0 { Place::Between } else { Place::Rows(left) }
}

impl Tap {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether rows that come from now on are taken. Where they are not any more, what is left of one is passed over.
    pub(super) fn set_taking(&self, taking: bool) {
        self.state().taking = taking;
    }

    /// Hands rows that are there to `take`, piece by piece, until it takes less than it is given. A piece ends anywhere.
    pub(super) fn take(&self, take: &mut impl FnMut(&[u8]) -> usize) -> Taken {
        let state = &mut *self.state();
        let mut taken = Taken::Nothing;
        loop {
            state.look();
            let Place::Rows(left) = state.place else { return taken };
            let there = state.there(left);
            if there == 0 || !state.taking {
                return taken;
            }
            let count = take(&state.buffer[state.start..state.start + there]).min(there);
            state.step(count);
            taken = Taken::All;
            if count < there {
                return Taken::Enough;
            }
        }
    }
}

/// A stream with a tap.
pub(super) struct Tapped<S> {
    stream: S,
    tap: Arc<Tap>,
}

impl<S> Tapped<S> {
    pub(super) fn new(stream: S, tap: Arc<Tap>) -> Self {
        Self { stream, tap }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, tap } = &mut *self;
        let state = &mut *tap.state();
        loop {
            state.look();
            match state.place {
                Place::Rows(left) if state.unread() > 0 => {
                    if state.taking {
                        // Who takes them is who polls this: nobody needs to be woken.
                        return Poll::Pending;
                    }
                    let there = state.there(left);
                    state.step(there);
                    continue;
                }
                Place::Passing(left) if state.unread() > 0 => {
                    let count = state.there(left).min(buffer.remaining());
                    buffer.put_slice(&state.buffer[state.start..state.start + count]);
                    state.step(count);
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            state.make_room();
            let mut room = ReadBuf::new(&mut state.buffer[state.end..]);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut room))?;
            let count = room.filled().len();
            state.end += count;
            if count == 0 {
                // The end. A part of a head is passed on too: the library knows what it means.
                if state.unread() == 0 {
                    return Poll::Ready(Ok(()));
                }
                state.place = Place::Passing(u64::MAX);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Tapped<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// Makes streams with a tap out of those that another connector makes.
#[derive(Clone)]
pub(super) struct Tapping<C> {
    pub(super) connector: C,
    pub(super) tap: Arc<Tap>,
}

impl<S, C: MakeTlsConnect<S>> MakeTlsConnect<S> for Tapping<C>
where
    C::TlsConnect: 'static,
    <C::TlsConnect as TlsConnect<S>>::Future: Send + 'static,
    C::Stream: 'static,
{
    type Stream = Tapped<C::Stream>;
    type TlsConnect = Tapping<C::TlsConnect>;
    type Error = C::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        let connector = self.connector.make_tls_connect(domain)?;
        Ok(Tapping { connector, tap: Arc::clone(&self.tap) })
    }
}

impl<S, C: TlsConnect<S>> TlsConnect<S> for Tapping<C>
where
    C::Future: Send + 'static,
{
    type Stream = Tapped<C::Stream>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let (connecting, tap) = (self.connector.connect(stream), self.tap);
        Box::pin(async move { Ok(Tapped::new(connecting.await?, tap)) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::task::Waker;

    /// Gives its pieces one by one, then nothing more.
    struct Pieces(Vec<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.0.is_empty() {
                buffer.put_slice(&self.0.remove(0));
            }
            Poll::Ready(Ok(()))
        }
    }

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap() + LENGTH_BYTES;
        [&[kind][..], &length.to_be_bytes(), content].concat()
    }

    /// Reads to the end and returns what passed and what was taken, `most` bytes at a time.
    fn run(stream: &[u8], piece: usize, most: usize, taking: bool) -> (Vec<u8>, Vec<u8>) {
        let tap = Arc::new(Tap::default());
        tap.set_taking(taking);
        let pieces = stream.chunks(piece).map(<[u8]>::to_vec).collect();
        let mut tapped = Tapped::new(Pieces(pieces), Arc::clone(&tap));
        let (mut passed, mut taken) = (Vec::new(), Vec::new());
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let mut room = [0; 3];
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(&mut tapped).poll_read(&mut context, &mut buffer) {
                Poll::Ready(done) => {
                    done.unwrap();
                    if buffer.filled().is_empty() {
                        return (passed, taken);
                    }
                    passed.extend_from_slice(buffer.filled());
                }
                Poll::Pending => {
                    let before = taken.len();
                    let told = tap.take(&mut |bytes| {
                        let count = bytes.len().min(most);
                        taken.extend_from_slice(&bytes[..count]);
                        count
                    });
                    assert!(told != Taken::Nothing && taken.len() > before);
                }
            }
        }
    }

    #[test]
    fn rows_are_taken_and_everything_else_passes_in_its_order() {
        let notice = message(b'N', b"a notice between");
        let (begin, end) =
            (message(b'H', b"\0\0\0"), [message(b'c', b""), message(b'C', b"COPY 3\0")].concat());
        let rows: [&[u8]; 4] = [b"1\tone\n", b"", b"2\ttwo\n", b"3\tthree\n"];
        let stream = [
            begin.clone(),
            message(ROWS, rows[0]),
            message(ROWS, rows[1]),
            notice.clone(),
            message(ROWS, rows[2]),
            message(ROWS, rows[3]),
            end.clone(),
        ]
        .concat();
        let expected = ([begin, notice, end].concat(), rows.concat());
        for piece in [1, 2, 3, 4, 5, 6, 7, 11, 1000] {
            for most in [1, 4, 1000] {
                assert_eq!(run(&stream, piece, most, true), expected, "{piece} {most}");
            }
            assert_eq!(run(&stream, piece, 1000, false), (stream.clone(), Vec::new()));
        }
    }

    #[test]
    fn a_stream_of_another_kind_passes_as_it_is() {
        for stream in [&b"Ecannot fork\0"[..], b"d\0\0", b"d\0\0\0\x01rest of it", b""] {
            for piece in [1, 100] {
                assert_eq!(run(stream, piece, 1000, true), (stream.to_vec(), Vec::new()));
            }
        }
    }

    #[test]
    fn who_stops_in_the_middle_of_a_row_sees_the_next_message() {
        let tap = Arc::new(Tap::default());
        tap.set_taking(true);
        let end = message(b'C', b"COPY 1\0");
        let stream = [message(ROWS, b"a row that is left\n"), end.clone()].concat();
        let mut tapped = Tapped::new(Pieces(vec![stream]), Arc::clone(&tap));
        let mut context = Context::from_waker(Waker::noop());
        let mut room = [0; 100];
        assert!(Pin::new(&mut tapped).poll_read(&mut context, &mut ReadBuf::new(&mut room)).is_pending());
        assert_eq!(tap.take(&mut |_| 2), Taken::Enough);
        tap.set_taking(false);
        let mut buffer = ReadBuf::new(&mut room);
        assert!(Pin::new(&mut tapped).poll_read(&mut context, &mut buffer).is_ready());
        assert_eq!(buffer.filled(), end);
    }
}

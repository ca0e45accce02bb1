//! Records on standard output, with a reader that stalls and one that reads.

use std::fs;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};

use super::samples;
use crate::observe::audit::Audit;
use crate::observe::printer::RecordPrinter;
use crate::observe::trail::{Rotation, Trail};

/// A full pipe: a write ends when its reader goes on.
struct Pipe {
    printed: Sender<Vec<u8>>,
    stalled: Receiver<()>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.printed.send(bytes.to_vec()).map_err(io::Error::other)?;
        // Fails at once when the reader goes on.
        let _ = self.stalled.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reader of a [`Pipe`].
struct Reader {
    printed: Receiver<Vec<u8>>,
    /// It reads after this is dropped.
    stall: Sender<()>,
}

impl Reader {
    fn stalled() -> (Self, RecordPrinter) {
        let ((stall, stalled), (sender, printed)) = (mpsc::channel(), mpsc::channel());
        let printer = RecordPrinter::start(Pipe { printed: sender, stalled }).unwrap();
        (Self { printed, stall }, printer)
    }

    /// What was printed until the printer's thread ended.
    fn rest(self) -> Vec<u8> {
        drop(self.stall);
        self.printed.iter().flatten().collect()
    }
}

/// Sends this many events; the queue has room for fewer.
async fn log(trail: &Trail, printer: RecordPrinter, count: u64) {
    let trail = trail.clone();
    let (audit, writer) =
        Audit::printing(trail, Rotation::default(), 8, Some(printer)).expect("a log");
    for n in 1..=count {
        audit.reserve().await.unwrap().send(samples::event(n).entry());
    }
    audit.written().wait_for(|seq| *seq == count).await.unwrap();
    drop(audit);
    writer.finish();
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_neither_records_nor_the_end() {
    let (_folder, trail) = samples::empty();
    let (reader, printer) = Reader::stalled();
    log(&trail, printer, 200).await;
    let verified = trail.verify(|| true).unwrap();
    assert_eq!((verified.records, verified.broken), (200, None));
    let file = fs::read(trail.active()).unwrap();
    assert_eq!(reader.rest(), file, "it gets all records when it reads again");
}

#[tokio::test]
async fn a_reader_gets_each_record_once_and_also_the_last_ones() {
    let (_folder, trail) = samples::empty();
    let (Reader { printed, stall }, printer) = Reader::stalled();
    drop(stall);
    log(&trail, printer, 200).await;
    let printed: Vec<u8> = printed.try_iter().flatten().collect();
    assert_eq!(printed, fs::read(trail.active()).unwrap(), "before the process ends");
}

#[test]
fn only_whole_records_within_a_bound_wait_for_a_reader() {
    let (reader, printer) = Reader::stalled();
    printer.print(b"first\n");
    assert_eq!(reader.printed.recv().unwrap(), b"first\n");
    let long = [vec![b'x'; 900_000], vec![b'\n']].concat();
    printer.print(&long);
    printer.print(&long);
    printer.print(b"short\n");
    drop(printer);
    assert_eq!(reader.rest(), [&long[..], b"short\n"].concat());
}

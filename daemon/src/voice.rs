//! Lines on standard error, written by a thread of their own: whoever reads there may pause, and no
//! reply of the filesystem waits for that.

use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Lines that wait until somebody reads them; and as many that are held back.
const LINES_MAX: usize = 4096;

/// A writer of lines. Those that were said are written when this is gone.
#[derive(Debug)]
pub(crate) struct Voice {
    words: Option<SyncSender<Word>>,
    unsaid: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Word {
    Line(String),
    /// Whoever waits is told when all lines before are written, or held back.
    Mark(Sender<()>),
    /// From now on lines are held back.
    Hold,
    /// What was held back is written.
    Release,
}

impl Voice {
    /// `left_out` says of how many lines only the number is told.
    pub(crate) fn start(left_out: fn(u64) -> String) -> Self {
        Self::into(io::stderr(), left_out)
    }

    fn into(out: impl Write + Send + 'static, left_out: fn(u64) -> String) -> Self {
        let (words, heard) = mpsc::sync_channel(LINES_MAX);
        let unsaid = Arc::<AtomicU64>::default();
        let mut writer = Writer { out, left_out, held: None, unsaid: Arc::clone(&unsaid) };
        let writer = thread::spawn(move || writer.write_all(&heard));
        Self { words: Some(words), unsaid, writer: Some(writer) }
    }

    /// Says a line, after all that were said before. Returns when it is written, or held back.
    pub(crate) fn say(&self, line: String) {
        let (written, wait) = mpsc::channel();
        self.tell(Word::Line(line));
        self.tell(Word::Mark(written));
        // Without a writer nobody can be told anything.
        wait.recv().unwrap_or_default();
    }

    /// Says a line if there is room for it, and waits for nobody. Of those that find no room only
    /// the number is said.
    pub(crate) fn mention(&self, line: String) {
        let Some(words) = &self.words else { return };
        if let Err(TrySendError::Full(_)) = words.try_send(Word::Line(line)) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, or held back, but no longer than this. Whether they are.
    pub(crate) fn finish(self: &Arc<Self>, patience: Duration) -> bool {
        let (written, wait) = mpsc::channel();
        let voice = Arc::clone(self);
        // On a thread of its own, for there may be no room for as much as a word.
        thread::spawn(move || voice.tell(Word::Mark(written)));
        wait.recv_timeout(patience).is_ok()
    }

    pub(crate) fn hold(&self) {
        self.tell(Word::Hold);
    }

    pub(crate) fn release(&self) {
        self.tell(Word::Release);
    }

    fn tell(&self, word: Word) {
        if let Some(words) = &self.words {
            words.send(word).unwrap_or_default();
        }
    }
}

/// As a log writes: whole lines, each of them mentioned.
impl Write for &Voice {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        self.mention(text.trim_end_matches('\n').to_owned());
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.words = None;
        if let Some(writer) = self.writer.take() {
            writer.join().unwrap_or_default();
        }
    }
}

struct Writer<W> {
    out: W,
    left_out: fn(u64) -> String,
    held: Option<VecDeque<String>>,
    unsaid: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn write_all(&mut self, words: &Receiver<Word>) {
        for word in words {
            match word {
                Word::Line(line) => self.take(line),
                Word::Mark(waiting) => {
                    if self.held.is_none() {
                        self.tell_unsaid();
                    }
                    // Whoever waited may have lost patience.
                    waiting.send(()).unwrap_or_default();
                }
                Word::Hold => drop(self.held.get_or_insert_default()),
                Word::Release => self.release(),
            }
        }
        self.release();
    }

    fn take(&mut self, line: String) {
        match &mut self.held {
            Some(held) if held.len() < LINES_MAX => held.push_back(line),
            Some(_) => drop(self.unsaid.fetch_add(1, Ordering::Relaxed)),
            None => {
                self.write(&line);
                self.tell_unsaid();
            }
        }
    }

    fn release(&mut self) {
        for line in mem::take(&mut self.held).into_iter().flatten() {
            self.write(&line);
        }
        self.tell_unsaid();
    }

    fn tell_unsaid(&mut self) {
        match self.unsaid.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => self.write(&(self.left_out)(lines)),
        }
    }

    /// Nobody may be listening; that changes nothing.
    fn write(&mut self, line: &str) {
        writeln!(self.out, "{line}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::{Mutex, MutexGuard};

    use super::*;

    /// A reader who can pause.
    #[derive(Clone, Debug, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn pause(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock()
        }

        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn voice(page: &Page) -> Voice {
        Voice::into(page.clone(), |lines| format!("and {lines} more"))
    }

    #[test]
    fn what_is_said_is_written_when_the_call_returns_and_in_order() {
        let page = Page::default();
        let voice = voice(&page);
        voice.mention("one".to_owned());
        voice.say("two".to_owned());
        assert_eq!(page.lines(), ["one", "two"]);
    }

    #[test]
    fn what_is_mentioned_waits_for_no_reader_and_is_counted_where_there_is_no_room() {
        let page = Page::default();
        let voice = voice(&page);
        let paused = page.pause();
        // One that the writer has in its hands, those that wait, and those without room.
        let mentioned = 2 * LINES_MAX;
        (0..mentioned).for_each(|number| voice.mention(number.to_string()));
        drop(paused);
        drop(voice);
        let lines = page.lines();
        let left_out: usize = lines
            .iter()
            .filter_map(|line| line.strip_prefix("and ")?.split_once(' '))
            .map(|(number, _)| number.parse::<usize>().unwrap())
            .sum();
        let written = lines.iter().filter(|line| line.parse::<usize>().is_ok()).count();
        assert!(left_out > 0, "{lines:?}");
        assert_eq!(written + left_out, mentioned);
    }

    #[test]
    fn a_log_is_written_at_the_end_unless_its_reader_takes_too_long() {
        let page = Page::default();
        let log = Arc::new(voice(&page));
        let paused = page.pause();
        (0..2 * LINES_MAX).for_each(|_| (&*log).write_all(b"a line\n").unwrap());
        assert!(!log.finish(Duration::from_millis(20)), "nobody reads");
        drop(paused);
        assert!(log.finish(Duration::from_mins(1)));
        let lines = page.lines();
        assert!(lines.iter().any(|line| line == "a line"), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("and ")), "{lines:?}");
        assert!(lines.iter().all(|line| !line.is_empty()), "{lines:?}");
    }

    #[test]
    fn what_is_held_back_is_written_at_its_release_and_has_a_bound() {
        let page = Page::default();
        let voice = voice(&page);
        voice.hold();
        (0..LINES_MAX + 3).for_each(|number| voice.say(number.to_string()));
        assert_eq!(page.lines(), [""; 0]);
        voice.release();
        voice.say("after".to_owned());
        let lines = page.lines();
        assert_eq!(lines.len(), LINES_MAX + 2);
        assert_eq!(lines[LINES_MAX], "and 3 more");
        assert_eq!(lines[LINES_MAX + 1], "after");
    }
}

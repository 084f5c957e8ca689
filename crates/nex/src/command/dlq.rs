//! `nex dlq`.

use std::collections::BTreeSet;

use nex_client::{Client, ClientError, DeadLetter, DeadLetterError, DeadLetters};
use nex_protocol::dead_letter::DEAD_LETTER_STREAM;
use serde_json::{Value, json};

use crate::{
    cli::{DlqArgs, DlqCommand, ManyArgs},
    command::fault,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
    print::{
        headers,
        labels::labelled,
        table::{Table, printable},
    },
};

/// Lists dead letters, shows them, replays them, drops them.
pub(crate) async fn run(args: DlqArgs, context: &Context) -> CommandResult {
    let client = connect::client(context, context.look_namespace()?).await?;
    match args.command {
        DlqCommand::List => list(&client, context).await,
        DlqCommand::Show { number } => {
            let letter = client.dead_letter(number).await.map_err(told)?;
            show(&letter, context)
        }
        DlqCommand::Replay(args) => each(&args, &client, context, Deed::Replay).await,
        DlqCommand::Drop(args) => each(&args, &client, context, Deed::Drop).await,
    }
}

async fn list(client: &Client, context: &Context) -> CommandResult {
    let DeadLetters {
        letters,
        unreadable,
    } = client.dead_letters().await.map_err(told)?;
    let printer = &context.printer;
    if printer.is_json() {
        let letters: Vec<Value> = letters.iter().map(as_json).collect();
        printer.json(&letters)?;
    } else if letters.is_empty() {
        printer.line("No dead letters found")?;
    } else {
        const COLUMNS: [&str; 7] = [
            "Number", "Time", "Function", "Stream", "Subject", "Attempts", "Reason",
        ];
        let mut table = Table::new("Dead Letters", &COLUMNS).number(0).number(5);
        for letter in &letters {
            table.row([
                letter.number.to_string(),
                format!("{:.0}", letter.time),
                letter.name.clone(),
                format!("{} {}", letter.stream, letter.sequence),
                letter.subject.clone(),
                letter.attempts.clone(),
                letter.reason.chars().take(80).collect(),
            ]);
        }
        printer.line(table.draw())?;
    }
    if let Some(first) = unreadable.first() {
        printer.note(format!(
            "messages among them that are no dead letters: {}, as number {first}\n\
             hint: `nats stream get NEX_DLQ {first}` shows it",
            unreadable.len()
        ));
    }
    Ok(Exit::OK)
}

fn show(letter: &DeadLetter, context: &Context) -> CommandResult {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(&as_json(letter))?;
        return Ok(Exit::OK);
    }
    let headers = headers::pairs(&letter.headers);
    let headers: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let text = |text: &str| printable(text);
    let pairs = [
        ("Time", letter.time.to_string()),
        ("Function", text(&letter.name)),
        ("Namespace", text(&letter.namespace)),
        ("Workload", text(&letter.workload)),
        (
            "Reason",
            text(&format!("{} ({})", letter.reason, letter.code)),
        ),
        ("Attempts", text(&letter.attempts)),
        ("Stream", text(&letter.stream)),
        ("Sequence", text(&letter.sequence)),
        ("Subject", text(&letter.subject)),
        ("Headers", text(&headers.join("; "))),
        ("Bytes", letter.payload.len().to_string()),
    ];
    printer.line(labelled(&format!("Dead Letter {}", letter.number), &pairs))?;
    printer.bytes(&letter.payload)?;
    if !letter.payload.ends_with(b"\n") {
        printer.bytes(b"\n")?;
    }
    Ok(Exit::OK)
}

/// What is done with a dead letter.
#[derive(Clone, Copy)]
enum Deed {
    Replay,
    Drop,
}

impl Deed {
    fn word(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Drop => "dropped",
        }
    }

    async fn with(self, client: &Client, number: u64) -> Result<(), DeadLetterError> {
        let letter = client.dead_letter(number).await?;
        match self {
            Self::Replay => client.replay(&letter).await.map(|_result| ()),
            Self::Drop => client.drop_dead_letter(&letter).await,
        }
    }
}

/// Does it with each, once; what fails does not keep the others from it.
///
/// Each is looked up just before: another person may have done it meanwhile.
async fn each(args: &ManyArgs, client: &Client, context: &Context, deed: Deed) -> CommandResult {
    let printer = &context.printer;
    let numbers: BTreeSet<u64> = if args.all {
        let all = client.dead_letters().await.map_err(told)?;
        all.letters.iter().map(|letter| letter.number).collect()
    } else {
        args.numbers.iter().copied().collect()
    };
    let mut failure: Option<CommandError> = None;
    let mut results = Vec::new();
    let count = numbers.len();
    for number in numbers {
        let done = deed.with(client, number).await;
        if args.all && matches!(done, Err(DeadLetterError::NotFound(_))) {
            continue;
        }
        results.push(json!({
            "number": number,
            deed.word(): done.is_ok(),
            "error": done.as_ref().err().map(ToString::to_string),
        }));
        match done {
            Ok(()) if printer.is_json() => {}
            Ok(()) => printer.line(format!("Dead letter {number} {}", deed.word()))?,
            Err(error) => {
                let error = told(error);
                if count > 1 && !printer.is_json() {
                    printer.note(format!("dead letter {number}: {}", error.message()));
                }
                failure.get_or_insert(error);
            }
        }
    }
    if printer.is_json() {
        printer.json(&results)?;
    } else if count == 0 {
        printer.line("No dead letters found")?;
    }
    failure.map_or(Ok(Exit::OK), Err)
}

fn as_json(letter: &DeadLetter) -> Value {
    let mut shown = json!({
        "number": letter.number,
        "time": letter.time,
        "name": letter.name,
        "namespace": letter.namespace,
        "workload": letter.workload,
        "reason": letter.reason,
        "code": letter.code,
        "attempts": letter.attempts.parse::<u64>().ok(),
        "stream": letter.stream,
        "sequence": letter.sequence.parse::<u64>().ok(),
        "subject": letter.subject,
        "headers": headers::json(&letter.headers),
    });
    let (key, data) = match std::str::from_utf8(&letter.payload) {
        Ok(text) => ("data", text.to_owned()),
        Err(_) => ("data_base64", data_encoding::BASE64.encode(&letter.payload)),
    };
    shown[key] = data.into();
    shown
}

fn told(error: DeadLetterError) -> CommandError {
    match &error {
        DeadLetterError::NotFound(_) => CommandError::from_error(Kind::NotFound, &error)
            .hint("`nex dlq list` shows those of the namespace; `--namespace` names another"),
        DeadLetterError::NotRunning { .. } => CommandError::from_error(Kind::NotFound, &error)
            .hint("start it again with the same name and trigger, then replay"),
        DeadLetterError::Failed { .. } => CommandError::from_error(Kind::Failed, &error)
            .hint("the dead letter stays; `nex logs` shows more"),
        DeadLetterError::NotTheFunction => CommandError::from_error(Kind::Failed, &error)
            .hint("a stream may keep what is sent to functions: `nats stream subjects` shows it"),
        DeadLetterError::NoAnswer(_) => CommandError::from_error(Kind::Failed, &error)
            .hint("the dead letter stays; `nex workload list` shows whether the function runs"),
        DeadLetterError::Nats(_, cause)
            if matches!(cause.downcast_ref(), Some(ClientError::ConnectionLost)) =>
        {
            CommandError::from_error(Kind::Unreachable, &error)
                .hint("`nex dlq list` shows which dead letters are left")
        }
        DeadLetterError::Nats(_, cause)
            if matches!(cause.downcast_ref(), Some(ClientError::Denied { .. })) =>
        {
            let told = CommandError::from_error(Kind::Failed, &error);
            told.hint(fault::DENIED_HINT).refused()
        }
        DeadLetterError::Nats(..) => match fault::of_stream(&error, DEAD_LETTER_STREAM) {
            Some(told) => told,
            None => CommandError::from_error(Kind::Failed, &error)
                .hint("`nats stream info NEX_DLQ` shows the stream of dead letters"),
        },
    }
}

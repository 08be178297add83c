"""A study: the one YAML file that describes a run.

Each field is documented here once; `fute schema` prints what stands here. Relative paths are relative to the
study file. A key never stands in a study: a study names the environment variable that holds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from fute.address import address_problem, decoded, is_url, store_fault
from fute.did_you_mean import did_you_mean
from fute.llm.providers import PROVIDERS
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.outputs.config import OutputsConfig
from fute.methods.python_config import PythonMethodConfig
from fute.methods.taskemb.config import TaskembConfig
from fute.methods.tupate.config import TupateConfig
from fute.models.calibration import Calibration
from fute.secret_in import address_with_secret
from fute.settings import FreeFields, Settings
from fute.types import OutputKind, TaskType


def _without_secret(value: str) -> str:
    if address_with_secret(value):
        raise ValueError("holds a key or a password, and what stands in a study is stored and shown; take it out")
    return value


def _without_password(value: str) -> str:
    if "@" in decoded(value):
        raise ValueError("no user name or password in it, not even as %40")
    return _without_secret(value)


WithoutPassword = Annotated[str, AfterValidator(_without_password)]
"""An address that is stored and shown. What is secret in it would be too."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,99}$")]
"""A name: letters, digits and . _ / + - (it becomes part of file names and SQL output)."""


def _entry_point(value: str) -> str:
    module, colon, function = value.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
        raise ValueError(f"{value!r} is no entry point; write it as package.module:function")
    return value


EntryPoint = Annotated[str, AfterValidator(_entry_point)]


def _codec(value: str) -> str:
    try:
        "".encode(value)
    except (LookupError, ValueError) as exc:
        raise ValueError(f"Python knows no encoding {value!r} of text; write utf-8, latin-1, cp1251 ...") from exc
    return value


Codec = Annotated[str, AfterValidator(_codec)]
Columns = Annotated[list[str], Field(min_length=1)]
Separator = Annotated[str, Field(min_length=1, max_length=1)]


# ---------------------------------------------------------------------------------------------- where rows come from


class FileSource(Settings):
    """Local files: Parquet, CSV (also .tsv, and between semicolons or bars), JSONL, JSON, Excel; CSV and JSON also
    compressed (.gz, .bz2, .xz). Or a folder: of .txt files, in a folder for each label (columns text and label) or
    without labels (text), or one that `save_to_disk` wrote."""

    source: Literal["files"] = "files"
    """Says where the rows come from."""
    files: str | dict[str, str]
    """One path (the training split), or a path for each split: train, validation, test. A path may be a
    glob: in a dataset its files are one split, in the order of their names; in a pool each of them is a source."""
    format: Literal["auto", "parquet", "csv", "tsv", "jsonl", "json", "xlsx"] = "auto"
    """auto: by the file's ending."""
    separator: Separator | None = None
    """Between the cells of CSV files; default: whichever of , ; tab | makes the named columns of the first line."""
    encoding: Codec | None = None
    """Of text files, for instance cp1251 or utf-16; default: UTF-8, else what their bytes say, else refused."""


class HubSource(Settings):
    """A dataset of the Hugging Face hub."""

    source: Literal["hub"]
    """Says where the rows come from."""
    name: str
    """Name on the hub, for instance stanfordnlp/sst2."""
    subset: str | None = None
    """The dataset's configuration, for instance sst2 of nyu-mll/glue."""
    revision: str | None = None
    """A commit, tag or branch. The commit that it stands for is resolved once and recorded."""
    splits: dict[str, str] = {"train": "train"}
    """Our split to the hub's split, for instance {train: train, test: validation}."""


class PythonSource(Settings):
    """A function that returns rows: {column: list}, a list of {column: value}, a data frame, an Arrow table or a
    datasets.Dataset; or one of these for each split, {train: ..., test: ...}."""

    source: Literal["python"]
    """Says where the rows come from."""
    entry_point: EntryPoint
    """package.module:function, found on the Python path or beside the study file."""
    kwargs: FreeFields = {}
    """Passed to the function."""
    revision: str = ""
    """Change it when the function would return other rows."""


def _database(value: str) -> str:
    if "://" in value and ("@" in decoded(value) or address_with_secret(value)):
        raise ValueError("no user, password or key in it; put the URL into an environment variable, and write env:NAME")
    return value


class SqlSource(Settings):
    """What a query answers from a DuckDB or SQLite file, or from a database server (through SQLAlchemy)."""

    source: Literal["sql"]
    """Says where the rows come from."""
    database: Annotated[str, AfterValidator(_database)]
    """Path of a file, opened for reading only; or a URL of SQLAlchemy without user name and password, such as
    postgresql+psycopg2://host/tickets (its driver is yours to install); or env:NAME, for the URL that this environment
    variable holds."""
    query: str | dict[str, str]
    """A SELECT (of the training split), or one for each split. End it in ORDER BY, or the order of rows is the
    database's. Its text and the file's content, or the server's answer, are the rows' identity."""


def _files_by_default(value: Any) -> Any:
    # A union told apart by a field needs that field, whatever default it has.
    return {"source": "files", **value} if isinstance(value, dict) and "files" in value else value


Source = Annotated[
    FileSource | HubSource | PythonSource | SqlSource, Field(discriminator="source"), BeforeValidator(_files_by_default)
]


class DatasetConfig(Settings):
    """A labelled dataset."""

    id: Id
    """Unique name; datasets and models share one set of names."""
    data: Source
    """Where its rows come from."""
    task: TaskType = "classification"
    """classification, regression or span_qa."""
    text: str = "text"
    """Column of the text (span QA: the question)."""
    text_pair: str | None = None
    """Column of the second text (span QA: the context)."""
    columns: Columns | None = None
    """Columns of the row, where the inputs are no texts: numbers, texts, booleans, lists of them (images, vectors). All
    inputs of a study then have the same columns, in the same order."""
    label: str = "label"
    """Column of the label (span QA: answers {text, answer_start}, as in SQuAD)."""
    label_names: list[str] | None = None
    """Names of the classes 0, 1, ... (false, true); default: what the source says, else the sorted distinct labels.
    Where names are labels themselves, a label is the class called like it; what can be read in two ways is refused."""
    family: str | None = None
    """What kind of task this is (sentiment, nli ...), for grouping in reports only."""
    max_rows: int = Field(default=2000, ge=2)
    """Rows kept of the training split, a seeded stratified sample."""
    max_eval_rows: int = Field(default=1000, ge=2)
    """Rows kept of each other split."""
    min_rows: int = Field(default=16, ge=2)
    """Fewer training rows than this are refused."""
    skip_bad_rows: bool = False
    """Leave out null, empty and duplicate rows and count them, instead of refusing nulls and empty texts."""

    def identity(self, *, exclude: set[str] | None = None) -> dict[str, object]:
        # As it was before there were rows, so that datasets of texts keep their fingerprints.
        return super().identity(exclude={*(exclude or ()), *(() if self.columns else ("columns",))})


class PoolSourceConfig(Settings):
    """An unlabelled source of the pool."""

    id: Id | None = None
    """Default: the file's name without its ending, or the hub name."""
    data: Source
    """Where its rows come from; `files` may be a glob, and each file is then a source. Files of one name are told
    apart by their folders."""
    text: str = "text"
    """Column of the text."""
    text_pair: str | None = None
    """Column of the second text; rows where it is null count as single texts."""
    columns: Columns | None = None
    """Columns of the row, in place of a text: see `columns` of a dataset."""


class PoolConfig(Settings):
    """The unlabelled inputs given to every model."""

    sources: list[PoolSourceConfig] = Field(min_length=1)
    """Many small sources are better than one large one."""
    rows_per_source: int = Field(default=15, ge=1)
    """At most so many rows of each source, a seeded sample."""
    max_rows: int = Field(default=3000, ge=8)
    """At most so many rows altogether, shared evenly between the sources."""
    exclude: list[str] = []
    """Ids of sources to leave out (globs allowed)."""
    exclude_evaluated: bool = True
    """Leave out texts that also occur in a dataset of this study (exact and normalised match)."""
    reuse: str | None = Field(default=None, pattern=r"^[0-9a-f]+$")
    """The id of a pool in the store, used as it is instead of building one; keeps a space fixed as datasets come
    and go."""


# ------------------------------------------------------------------------------------------------- surrogate, methods


class SurrogateConfig(Settings):
    """The frozen model in whose features or parameters all embeddings live."""

    model: str = "embedded:all-MiniLM-L6-v2"
    """embedded:all-MiniLM-L6-v2 (ships with the installation), a local folder, or a hub name (BERT, T5 and GPT-2
    families). Or no model: vectors (the values of the pool's own `columns`), vectors:FILE (your own features: a file
    with the columns of an input, or `text`, and `vector`), none (for method outputs). Layer, tokens, batches, device
    and dtype are then of no account."""
    revision: str | None = None
    """Commit, tag or branch on the hub; the commit is resolved and recorded."""
    layer: int | Literal["upper_half"] = "upper_half"
    """Whose hidden states are averaged over the text: -1 the last layer, 0 the embeddings; upper_half: the layers
    from the middle up, each at unit length, side by side (retrieves better than the last alone: benchmarks)."""
    max_tokens: int = Field(default=128, ge=4)
    """Longer inputs are cut (counted and reported)."""
    batch_size: int = Field(default=64, ge=1)
    """Rows of one forward pass; does not change results beyond float rounding."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    """Precision of the forward pass. auto: bfloat16 where the hardware computes in it. The process that starts the run
    decides, for all workers; which of the two it was is part of the space."""


Method = Annotated[
    CrosscovConfig | OutputsConfig | TupateConfig | TaskembConfig | PythonMethodConfig, Field(discriminator="method")
]

# ------------------------------------------------------------------------------------------------------------- models


class MadeForTask(Settings):
    task: str | None = None
    """The dataset (id) that it was made for, where known; reports only."""


class ZooModel(MadeForTask):
    id: Id
    """Unique name."""


class PretrainedModel(ZooModel):
    model: str
    """Local folder (relative to the study file) or hub name; safetensors only, no remote code."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""


class TransformersModel(PretrainedModel):
    """A fine-tuned sequence classifier: a local folder or a hub name."""

    kind: Literal["transformers"]
    """Says which kind of model this is."""
    max_tokens: int = Field(default=128, ge=4)
    """Longer inputs are cut."""
    batch_size: int = Field(default=64, ge=1)
    """Rows of one forward pass."""


class SpanAnswererModel(PretrainedModel):
    """A fine-tuned extractive question answerer: a local folder or a hub name. It answers the pool's inputs that have a
    second text: the text is the question, the second text the context."""

    kind: Literal["span_answerer"]
    """Says which kind of model this is."""
    max_tokens: int = Field(default=384, ge=16)
    """Question and context together; a longer context is read in windows that overlap."""
    stride: int = Field(default=128, ge=0)
    """Tokens that a window shares with the one before it; at most three eighths of max_tokens count."""
    top_k: int = Field(default=5, ge=1, le=100)
    """Candidate answers that are kept of each input."""
    max_answer_tokens: int = Field(default=30, ge=1)
    """Longer answers are not considered."""
    no_answer: bool = True
    """Whether "there is no answer" competes with the spans (as in SQuAD 2.0); false for a model that was trained on
    answerable questions only."""
    batch_size: int = Field(default=32, ge=1)
    """Windows of one forward pass."""


class SklearnModel(ZooModel):
    """A scikit-learn pipeline, given as a Python function that returns it fitted."""

    kind: Literal["sklearn"]
    """Says which kind of model this is."""
    entry_point: EntryPoint
    """package.module:function; the function returns a fitted pipeline that takes a list of texts."""
    kwargs: FreeFields = {}
    """Passed to the function."""
    revision: str = ""
    """Change it when the pipeline changes; the function's source file is fingerprinted as well."""


class PythonModel(ZooModel):
    """Any Python callable: (texts, pairs) -> one row of numbers, or one label, for each input."""

    kind: Literal["python"]
    """Says which kind of model this is."""
    entry_point: EntryPoint
    """package.module:function."""
    kwargs: FreeFields = {}
    """Passed to the function beside texts and pairs."""
    outputs: OutputKind = "probabilities"
    """What it returns: probabilities, labels (one for each input), scores, embeddings, spans (for each input start, end
    and probability of each candidate answer, side by side; None for an input without a second text)."""
    label_names: list[str] | None = None
    """What the columns stand for."""
    revision: str = ""
    """Change it when the function changes; its source file is fingerprinted as well."""


class MlflowModel(ZooModel):
    """A model of an MLflow registry or run, looked for where the environment variable MLFLOW_TRACKING_URI says. Its
    code is run: name only models that you trust."""

    kind: Literal["mlflow"]
    """Says which kind of model this is."""
    model: str = Field(pattern=r"^(models|runs|file):.+")
    """models:/name/version, models:/name@alias or runs:/run_id/path. What it stands for is resolved, and is the model's
    identity: another version is another model. A scikit-learn model is asked for probabilities where it has them; any
    other is given the texts, and answers with labels or with a row of probabilities for each."""


class PredictionsModel(ZooModel):
    """A table of predictions made elsewhere on this pool."""

    kind: Literal["predictions"]
    """Says which kind of model this is."""
    file: str
    """A file as datasets may be (CSV, Parquet, JSONL ...), relative to the study file."""
    row: str | None = "row"
    """Column with the pool row, as in the pool's own Parquet file; null: rows are matched by `text`."""
    text: str | None = None
    """Column with the input's text, to match rows by content instead of by number; line ends and blanks around a text
    may differ."""
    text_pair: str | None = None
    """Column with the input's second text."""
    label: str | None = None
    """Column with the predicted label: a text, a boolean or a whole number (`2` or `2.0`) is a class, a blank one no
    answer; numbers of which some have a fraction are those of a regression. Texts that differ in blanks only are
    refused."""
    probabilities: list[str] | None = None
    """Columns with the probabilities, or one column that holds a list."""
    scores: list[str] | None = None
    """Columns of numbers that need not add up to one (of a regression, of labels that may all be true), or one column
    that holds lists of them."""
    start: str | None = None
    """Column with the first character of the answer in the second text (question answering); -1: no answer."""
    end: str | None = None
    """Column with the character behind the answer; -1: no answer."""
    answer: str | None = None
    """Column with the answer's text, instead of start and end: it is looked for in the second text, the first
    occurrence counts, and an empty text means no answer."""
    score: str | None = None
    """Column with the probability of that answer; default: 1."""
    pool: str | None = None
    """The pool's id that the rows refer to; another pool is then refused. Default: the file's column `pool`. Rows that
    are named by number alone need one of them."""

    def identity(self, *, exclude: set[str] | None = None) -> dict[str, object]:
        # As it was before there were scores, so that nothing is read anew.
        return super().identity(exclude={*(exclude or ()), *(() if self.scores else ("scores",))})

    @property
    def numbers(self) -> list[str]:
        """Columns of probabilities or scores."""
        return self.probabilities or self.scores or []

    @property
    def gives_spans(self) -> bool:
        return any(column is not None for column in (self.start, self.end, self.answer))


class PromptModel(MadeForTask):
    """A prompted LLM: endpoint + prompt + decoding, taken together as one model. Lists make every combination."""

    kind: Literal["prompt"]
    """Says which kind of model this is."""
    id: Id | None = None
    """Default: <prompt>/<endpoint>."""
    prompt: str | list[str]
    """Id of a prompt of this study, a list of ids, or "*" for all."""
    endpoint: str | list[str]
    """Id of an endpoint of this study, a list of ids, or "*" for all."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0: the most probable answer."""
    max_answer_tokens: int = Field(default=8, ge=1)
    """Tokens asked for at most. A reasoning model needs room for its thinking too: some thousands."""
    max_reasoning_tokens: int = Field(default=512, ge=1)
    """Tokens of the reasoning at most, for a prompt with `cot`."""
    samples: int = Field(default=1, ge=1, le=100)
    """Answers asked for each input, at a temperature above 0; the label's share of them is its probability."""
    calibration: Calibration = "none"
    """What is taken out of the label probabilities. content_free: what the prompt answers to inputs that say nothing
    (empty, N/A, [MASK]), asked once; marginal: what it answers on average over the texts, which costs nothing and
    assumes that they have as many of each label. Both need log-probabilities or samples."""
    ask: int | None = Field(default=None, ge=50)
    """Ask about so many rows of the pool, drawn by its id, in place of all, and complete the other answers: 300 tell
    nine tenths of what a whole pool of 3,000 does (few_rows.md). A larger number keeps the rows of a smaller one, so
    that only the new ones are paid for. For the method crosscov."""


class TrainedModel(Settings):
    """A source model that fute trains on datasets of this study and keeps in the store. A list makes one for each."""

    kind: Literal["trained"]
    """Says which kind of model this is."""
    id: Id | None = None
    """Default: <recipe>/<dataset>."""
    dataset: str | list[str]
    """Id of a dataset, a list of ids, or "*" for all classification datasets."""
    recipe: Literal["tfidf", "probe", "finetune"]
    """tfidf: TF-IDF + logistic regression; probe: frozen backbone features + logistic regression; finetune: all
    weights."""
    backbone: str | None = None
    """Folder or hub name of the transformer; default: the surrogate's."""
    revision: str | None = None
    """The backbone's commit, tag or branch on the hub."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the data (finetune)."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate (finetune)."""
    batch_size: int = Field(default=16, ge=1)
    """Rows of one optimiser step (finetune)."""
    max_tokens: int = Field(default=128, ge=4)
    """Longer inputs are cut (probe, finetune)."""
    max_rows: int | None = Field(default=None, ge=2)
    """Train on a seeded sample of so many rows."""


ModelConfig = Annotated[
    TransformersModel
    | SpanAnswererModel
    | SklearnModel
    | PythonModel
    | MlflowModel
    | PredictionsModel
    | PromptModel
    | TrainedModel,
    Field(discriminator="kind"),
]

# --------------------------------------------------------------------------------------------------- LLMs and prompts


class BudgetConfig(Settings):
    """A hard limit for one run. Before it would be passed the run stops, keeps what it has, and says how to go on."""

    max_usd: float | None = Field(default=None, gt=0)
    """US dollars; needs the prices of the endpoints that it counts for."""
    max_calls: int | None = Field(default=None, ge=1)
    """Requests sent, beside those that were refused at no cost."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers together."""


def _base_url(value: str) -> str:
    if value and (problem := address_problem(value)) is not None:
        raise ValueError(f"is no address of an API ({problem}); write it like https://api.openai.com/v1")
    return value


def _api(value: str) -> str:
    if value not in PROVIDERS:
        raise ValueError(f"no api {value!r}{did_you_mean(value, PROVIDERS) or '.'} There are: {', '.join(PROVIDERS)}")
    return value


class LocalModelConfig(Settings):
    """How a causal or seq2seq model is run in this process (api: local)."""

    revision: str | None = None
    """Commit, tag or branch on the hub; the commit is resolved and recorded."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    device_map: str | None = None
    """auto, balanced, sequential: spread the weights over all devices (needs the package accelerate)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights; auto: as the checkpoint was saved."""
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Weights in 8 or 4 bits (needs the package bitsandbytes and hardware that it supports)."""
    batch_size: int = Field(default=16, ge=1)
    """Prompts of one forward pass; does not change results beyond float rounding."""
    max_tokens: int = Field(default=2048, ge=8)
    """Longer prompts lose tokens from their middle; at most what the model reads."""


class EndpointConfig(Settings):
    """Where a model is asked: an HTTP API, or a model that runs in this process."""

    id: Id
    """Unique name."""
    api: Annotated[str, AfterValidator(_api)] = "openai_chat"
    """openai_chat (hosted vendors, vLLM, Ollama, llama.cpp, TGI, LM Studio), openai_completions (the older protocol,
    for base models), anthropic, local (a transformers model in this process)."""
    base_url: Annotated[WithoutPassword, AfterValidator(_base_url)] = Field(
        default="", pattern=r"^(https?://[^\s@?#]+)?$"
    )
    """For instance https://api.openai.com/v1 or http://127.0.0.1:8000/v1. No user name, password or query in it.
    anthropic: the vendor's own by default; local: none."""
    model: str
    """The model's name at this endpoint; local: a folder (relative to the study file) or a hub name."""
    parameters: FreeFields = {}
    """More fields of the request's body, part of the model's identity: {reasoning_effort: low}, for vLLM
    {repetition_penalty: 1.0}. null leaves a field out that fute sends ({temperature: null} for models that refuse
    it). What fute sets or relies on itself (max_tokens, n, stream ...) is refused, and so are keys and passwords."""
    max_tokens_field: str = "max_tokens"
    """The name of the field that bounds an answer's tokens; OpenAI's reasoning models want max_completion_tokens."""
    local: LocalModelConfig = LocalModelConfig()
    """How a model in this process is run; for `api: local` only."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key (the name, never the key). null: no key is sent."""
    api_key_block: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    """Name of the Prefect Secret block that holds the key, instead of an environment variable."""
    service: Annotated[str, AfterValidator(_without_secret)] | None = None
    """What makes it the same endpoint (part of a model's identity); default: base_url. Set it where the address
    changes but the service does not."""
    logprobs: bool = True
    """Ask for token log-probabilities; answers without them are parsed as text. A host that gives fewer than 20 of a
    position takes `parameters: {top_logprobs: 5}`."""
    max_concurrency: int = Field(default=8, ge=1, le=1024)
    """Requests in flight at most."""
    timeout_s: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds for one request."""
    max_attempts: int = Field(default=6, ge=1, le=20)
    """Tries of one request, the first included."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests a minute at most, evenly spaced, retries included; kept across all workers of a Prefect server."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens a minute at most, estimated before a request is sent: its prompt and the whole room for its answer."""
    usd_per_million_tokens_in: float | None = Field(default=None, ge=0)
    """Price of a million tokens of prompts, in US dollars; null: not known, and no cost is shown."""
    usd_per_million_tokens_out: float | None = Field(default=None, ge=0)
    """Price of a million tokens of answers, in US dollars."""
    budget: BudgetConfig = BudgetConfig()
    """What one run may spend at this endpoint."""

    @model_validator(mode="after")
    def _address_is_known(self) -> EndpointConfig:
        provider = PROVIDERS[self.api]
        if not provider.over_http and self.base_url:
            raise ValueError(f"endpoint {self.id}: api: {self.api} runs in this process; take base_url out")
        if not self.base_url and provider.default_base_url is None:
            raise ValueError(f"endpoint {self.id}: api: {self.api} needs base_url, the address of the API")
        return self

    @property
    def address(self) -> str:
        """base_url, or where the provider is by default; empty for a model in this process."""
        return self.base_url or PROVIDERS[self.api].default_base_url or ""

    @property
    def in_flight(self) -> int:
        """Requests at once at most; a model in this process needs some batches of them, to sort them by length."""
        if PROVIDERS[self.api].over_http:
            return self.max_concurrency
        return max(self.max_concurrency, 4 * self.local.batch_size)


class PromptConfig(Settings):
    """A prompt: template and verbalizer. Templates are data: only {{variables}} are filled in."""

    id: Id
    """Unique name."""
    template: str = Field(min_length=1)
    """Text with {{text}} and, for pairs, {{text_pair}} (also {{premise}} and {{hypothesis}})."""
    system: str | None = None
    """System message."""
    verbalizer: dict[str, list[str]] = {}
    """Label to the answer words that stand for it, for instance {positive: [positive, good]}."""
    answer: Literal["label", "text"] = "label"
    """label: one of the verbalizer's; text: a summary, a rewrite or any other free text, which becomes outputs through
    a sentence embedding (the surrogate's features)."""
    parse: Literal["any", "exact", "first", "json"] = "any"
    """How the text of an answer is read where there are no log-probabilities. exact: it is one of the words; first: the
    first of the words in it counts; json: a JSON object in it names the label; any: exact, else json, else where it
    says what the answer is, else the only label that it names."""
    cot: bool = False
    """Chain of thought: ask for the reasoning first, then, with the reasoning before it, for the answer."""
    follow_up: str | None = None
    """What asks for the answer after the reasoning; default: a sentence that names the words."""
    task: str | None = None
    """The dataset (id) that it was written for, where known; reports only."""

    @model_validator(mode="after")
    def _answers_can_be_read(self) -> PromptConfig:
        if self.answer == "label" and len(self.verbalizer) < 2:
            raise ValueError(
                f"prompt {self.id}: its verbalizer has {len(self.verbalizer)} labels; give two or more, "
                "or answer: text for free text"
            )
        if self.answer == "text" and self.verbalizer:
            raise ValueError(f"prompt {self.id}: answer: text is not read by a verbalizer; take one of them out")
        if self.follow_up is not None and not self.cot:
            raise ValueError(f"prompt {self.id}: follow_up comes after reasoning; set cot: true, or take it out")
        return self


# -------------------------------------------------------------------------------------------------------------- study


class UnifyConfig(Settings):
    """How the embeddings of a space are brought into one frame."""

    frame: Literal["pseudo-tasks", "none"] = "pseudo-tasks"
    """pseudo-tasks: what the pool's own tasks have in common is removed, and scores are measured by them; none: raw
    cosines, which nothing can be said of."""
    neighbors: int = Field(default=100, ge=1)
    """Nearest subjects kept for each subject and kind."""


class TransferConfig(Settings):
    """Transfer source selection: from which dataset should fine-tuning on a few rows start? (`fute transfer`)"""

    sources: str | list[str] = "*"
    """Id of a dataset, a list of ids, or "*" for all classification datasets; on each a source model is fine-tuned."""
    targets: str | list[str] = "*"
    """Id of a dataset, a list of ids, or "*" for all classification datasets."""
    rows: int = Field(default=64, ge=2)
    """Training rows of a target, a seeded stratified sample."""
    eval_rows: int = Field(default=300, ge=2)
    """Held-out rows of a target that are scored, at most."""
    seeds: int = Field(default=3, ge=1, le=100)
    """Draws of rows, heads and batches that are averaged; they start at the study's seed."""
    epochs: int = Field(default=6, ge=1)
    """Passes over a target's training rows."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate on a target."""
    batch_size: int = Field(default=16, ge=1)
    """Rows of one optimiser step."""
    max_tokens: int = Field(default=128, ge=4)
    """Longer inputs are cut, on sources and targets."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Forward passes on the targets. bfloat16 is about three times as fast on CPUs that have it; weights stay
    float32."""
    source_rows: int | None = Field(default=None, ge=2)
    """Train each source model on a seeded sample of so many rows."""
    source_epochs: int = Field(default=3, ge=1)
    """Passes over a source's rows."""
    source_learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate on a source."""
    backbone: str | None = None
    """Folder or hub name of the transformer under all of them; default: the surrogate's."""
    revision: str | None = None
    """The backbone's commit, tag or branch on the hub."""

    def training_settings(self) -> dict[str, object]:
        """What decides the training on a target, beside its rows."""
        names = ("epochs", "learning_rate", "batch_size", "max_tokens", "dtype")
        return {name: getattr(self, name) for name in names}


class SelectConfig(Settings):
    """Choosing prompts for a target without labels (`fute select prompts`)."""

    method: str = "auto"
    """auto: oriented_information (mutual information, with the sign of the consensus) where all answers have graded
    probabilities, else consensus (expected accuracy against the labels that candidates and references find together);
    mutual_information where fewer than three candidates and references answer. Others: consensus_alone,
    reference_agreement, oriented_strength, oriented_closeness, closeness, consensus_strength, and the baselines
    mutual_information, mi_g, global_entropy, local_entropy, mdl, zps_log_probability, zps_probability, zps_majority;
    and spell, which prefers the prompt that reads most naturally to its model and asks for no answers (endpoints with
    api openai_completions or local only)."""
    rows: int = Field(default=300, ge=8)
    """Texts of the target that are asked about at most, a seeded sample."""
    references: str | list[str] = "*"
    """Labelled datasets of the study, by id, or "*" for all, that share label names with the prompts; an empty list: no
    references. The target itself is never one."""
    trusted: list[str] = []
    """Models of the study that are no prompts, by id, whose answers to the target's texts are references too: such as
    have the candidates' label names. A prompted LLM is compared as a candidate instead."""
    share: float = Field(default=1 / 3, gt=0, le=1)
    """Calls made at most, as a share of asking every candidate about every text. Below 1 (and with the methods auto,
    oriented_information and consensus): successive halving, so that calls go to those that may still be the best; with
    other methods everyone is asked about this share of the texts. Calls for content-free inputs come on top."""
    resamples: int = Field(default=100, ge=0, le=10_000)
    """Resamples of the rows for confidence intervals; 0: none."""

    def with_share(self, share: float | None) -> SelectConfig:
        """With another share of the calls, if one is given."""
        return self if share is None else SelectConfig.model_validate({**self.model_dump(), "share": share})


class TrackingConfig(Settings):
    """MLflow."""

    enabled: bool = True
    """Write every run to MLflow."""
    uri: WithoutPassword | None = Field(default=None, pattern=r"^[^@?]+$")
    """Default: what the environment variable MLFLOW_TRACKING_URI says, else an SQLite file in the store (mlflow.db). No
    user name or password in it: MLflow takes them from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    experiment: str | None = None
    """Default: the study's name."""


class DriftConfig(Settings):
    """Watching prompted models: a fixed panel of the pool is asked again and again (`fute drift`)."""

    panel_rows: int = Field(default=256, ge=16)
    """Rows of the pool that are asked, spread over its sources. A reading of the panel costs a call for each."""
    askings: int = Field(default=6, ge=2, le=20)
    """How often the baseline is asked, to learn how much an unchanged model varies; more make a sharper test."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Probability that an unchanged model ever raises an alarm, however often it is checked against one baseline."""
    answers_tolerance: float = Field(default=0.05, ge=0, lt=1)
    """What does not matter in one answer: share of probability that moved; of free texts, half of 1 - cosine."""
    panel_days: float = Field(default=7.0, gt=0)
    """With --wire: the panel is read when the last reading is so many days old, tripped or not."""


class Study(Settings):
    """One run, from datasets and models to one space of embeddings."""

    name: Id
    """Name of the study: the MLflow experiment and the report's title."""
    store: str = "store"
    """Folder of the store, relative to the study file; or a URL of object storage (s3://bucket/prefix, and what else
    fsspec knows), of which this machine keeps a mirror. No keys in it: they are taken from the environment."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """The one seed of everything that draws."""
    datasets: list[DatasetConfig] = []
    """Labelled datasets; each gets an embedding, and may train source models."""
    pool: PoolConfig
    """The unlabelled inputs that every model answers."""
    surrogate: SurrogateConfig = SurrogateConfig()
    """The model in which all embeddings live."""
    methods: list[Method] = [CrosscovConfig()]
    """How embeddings are made; each method is a space of its own."""
    models: list[ModelConfig] = []
    """The zoo."""
    endpoints: list[EndpointConfig] = []
    """Where prompts are asked."""
    prompts: list[PromptConfig] = []
    """Prompts to ask. An entry {set: sentiment} stands for all prompts of a set that ships with fute (sentiment,
    nli)."""
    prompt_files: list[str] = []
    """YAML files with more prompts (relative to the study file): `prompts:` with entries as here, and `task:` for
    all."""
    budget: BudgetConfig = BudgetConfig()
    """What one run may spend at all endpoints together."""
    unify: UnifyConfig = UnifyConfig()
    """How vectors are brought into one frame and ranked."""
    transfer: TransferConfig | None = None
    """What `fute transfer` measures; no other command looks at it."""
    drift: DriftConfig = DriftConfig()
    """How prompted models are watched."""
    select: SelectConfig = SelectConfig()
    """How `fute select prompts` chooses; no other command looks at it."""
    tracking: TrackingConfig = TrackingConfig()
    """Where runs are tracked."""
    workers: int = Field(default=2, ge=1, le=256)
    """Tasks that run at once."""
    task_runner: Literal["threads", "dask", "ray"] = "threads"
    """What runs the tasks: threads of the flow's process; Dask or Ray, on the cluster that DASK_SCHEDULER_ADDRESS or
    RAY_ADDRESS names, else on as many processes of this machine (extras fute[dask], fute[ray]). The environment
    variable FUTE_TASK_RUNNER goes before it."""
    base_dir: Path = Field(default=Path(), exclude=True)
    """Set on loading: the folder that relative paths start from."""

    @field_validator("store")
    @classmethod
    def _store_without_keys(cls, store: str) -> str:
        if is_url(store) and (fault := store_fault(store)):
            raise ValueError(fault)
        return store

    @property
    def store_address(self) -> str:
        """The store's folder, made absolute; or its URL."""
        return self.store if is_url(self.store) else str(self.path(self.store))

    def path(self, relative: str) -> Path:
        """A path of the study, made absolute."""
        return (self.base_dir / Path(relative).expanduser()).resolve()

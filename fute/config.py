"""A study: the one YAML file that describes a run.

Each field is documented here once; `fute schema` prints what stands here. Relative paths are relative to the
study file. A key never stands in a study: a study names the environment variable that holds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.tupate.config import TupateConfig
from fute.settings import Settings
from fute.types import OutputKind, TaskType

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,99}$")]
"""A name: letters, digits and . _ / + - (it becomes part of file names and SQL output)."""


def _entry_point(value: str) -> str:
    module, colon, function = value.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
        raise ValueError(f"{value!r} is no entry point; write it as package.module:function")
    return value


EntryPoint = Annotated[str, AfterValidator(_entry_point)]

# ---------------------------------------------------------------------------------------------- where rows come from


class FileSource(Settings):
    """Local Parquet, CSV or JSONL files."""

    source: Literal["files"] = "files"
    """Says where the rows come from."""
    files: str | dict[str, str]
    """One path (the training split), or a path for each split: train, validation, test. A path may be a
    glob: in a dataset its files are one split, in the order of their names; in a pool each of them is a source."""
    format: Literal["auto", "parquet", "csv", "jsonl"] = "auto"
    """auto: by the file's ending."""


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
    """A function that returns rows: {split: {column: list}} (or a datasets.DatasetDict)."""

    source: Literal["python"]
    """Says where the rows come from."""
    entry_point: EntryPoint
    """package.module:function, found on the Python path or beside the study file."""
    kwargs: dict[str, Any] = {}
    """Passed to the function."""
    revision: str = ""
    """Change it when the function would return other rows."""


def _files_by_default(value: Any) -> Any:
    # A union told apart by a field needs that field, whatever default it has.
    return {"source": "files", **value} if isinstance(value, dict) and "files" in value else value


Source = Annotated[
    FileSource | HubSource | PythonSource, Field(discriminator="source"), BeforeValidator(_files_by_default)
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
    label: str = "label"
    """Column of the label (span QA: answers {text, answer_start}, as in SQuAD)."""
    label_names: list[str] | None = None
    """Names of the classes 0, 1, ...; default: what the source says, else the sorted distinct labels."""
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


class PoolSourceConfig(Settings):
    """An unlabelled source of the pool."""

    id: Id | None = None
    """Default: the file's name without its ending, or the hub name."""
    data: Source
    """Where its rows come from; `files` may be a glob, and each file is then a source."""
    text: str = "text"
    """Column of the text."""
    text_pair: str | None = None
    """Column of the second text; rows where it is null count as single texts."""


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
    reuse: str | None = None
    """The id of a pool in the store, used as it is instead of building one; keeps a space fixed as datasets come
    and go."""


# ------------------------------------------------------------------------------------------------- surrogate, methods


class SurrogateConfig(Settings):
    """The frozen model in whose features or parameters all embeddings live."""

    model: str = "embedded:all-MiniLM-L6-v2"
    """embedded:all-MiniLM-L6-v2 (ships with the installation), a local folder, or a hub name (BERT, T5 and GPT-2
    families)."""
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
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward pass."""


Method = Annotated[CrosscovConfig | TupateConfig, Field(discriminator="method")]

# ------------------------------------------------------------------------------------------------------------- models


class TransformersModel(Settings):
    """A fine-tuned sequence classifier: a local folder or a hub name."""

    kind: Literal["transformers"]
    """Says which kind of model this is."""
    id: Id
    """Unique name."""
    model: str
    """Local folder (relative to the study file) or hub name; safetensors only, no remote code."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""
    max_tokens: int = Field(default=128, ge=4)
    """Longer inputs are cut."""
    batch_size: int = Field(default=64, ge=1)
    """Rows of one forward pass."""
    task: str | None = None
    """The dataset (id) that it was made for, where known; reports only."""


class SklearnModel(Settings):
    """A scikit-learn pipeline, given as a Python function that returns it fitted."""

    kind: Literal["sklearn"]
    """Says which kind of model this is."""
    id: Id
    """Unique name."""
    entry_point: EntryPoint
    """package.module:function; the function returns a fitted pipeline that takes a list of texts."""
    kwargs: dict[str, Any] = {}
    """Passed to the function."""
    revision: str = ""
    """Change it when the pipeline changes; the function's source file is fingerprinted as well."""
    task: str | None = None
    """The dataset (id) that it was made for, where known; reports only."""


class PythonModel(Settings):
    """Any Python callable: (texts, pairs) -> one row of numbers, or one label, for each input."""

    kind: Literal["python"]
    """Says which kind of model this is."""
    id: Id
    """Unique name."""
    entry_point: EntryPoint
    """package.module:function."""
    kwargs: dict[str, Any] = {}
    """Passed to the function beside texts and pairs."""
    outputs: OutputKind = "probabilities"
    """What it returns: probabilities, labels (one for each input), scores, embeddings."""
    label_names: list[str] | None = None
    """What the columns stand for."""
    revision: str = ""
    """Change it when the function changes; its source file is fingerprinted as well."""
    task: str | None = None
    """The dataset (id) that it was made for, where known; reports only."""


class PredictionsModel(Settings):
    """A table of predictions made elsewhere on this pool."""

    kind: Literal["predictions"]
    """Says which kind of model this is."""
    id: Id
    """Unique name."""
    file: str
    """Parquet or CSV file, relative to the study file."""
    row: str | None = "row"
    """Column with the pool row, as in the pool's own Parquet file; null: rows are matched by `text`."""
    text: str | None = None
    """Column with the input's text, to match rows by content instead of by number."""
    text_pair: str | None = None
    """Column with the input's second text."""
    label: str | None = None
    """Column with the predicted label."""
    probabilities: list[str] | None = None
    """Columns with the probabilities, or one column that holds a list."""
    pool: str | None = None
    """The pool's id that the rows refer to; another pool is then refused."""
    task: str | None = None
    """The dataset (id) that it was made for, where known; reports only."""


class PromptModel(Settings):
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
    """Tokens asked for at most."""
    task: str | None = None
    """The dataset (id) that it was made for, where known; reports only."""


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
    TransformersModel | SklearnModel | PythonModel | PredictionsModel | PromptModel | TrainedModel,
    Field(discriminator="kind"),
]

# --------------------------------------------------------------------------------------------------- LLMs and prompts


class EndpointConfig(Settings):
    """An OpenAI-compatible HTTP API."""

    id: Id
    """Unique name."""
    base_url: str = Field(pattern=r"^https?://[^\s@?#]+$")
    """For instance https://api.openai.com/v1 or http://127.0.0.1:8000/v1. No user name, password or query in it."""
    model: str
    """The model's name at this endpoint."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key (the name, never the key). null: no key is sent."""
    service: str | None = None
    """What makes it the same endpoint (part of a model's identity); default: base_url. Set it where the address
    changes but the service does not."""
    logprobs: bool = True
    """Ask for token log-probabilities; answers without them are parsed as text."""
    max_concurrency: int = Field(default=8, ge=1, le=1024)
    """Requests in flight at most."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Seconds for one request."""
    max_attempts: int = Field(default=6, ge=1, le=20)
    """Tries of one request, the first included."""


class PromptConfig(Settings):
    """A prompt: template and verbalizer. Templates are data: only {{variables}} are filled in."""

    id: Id
    """Unique name."""
    template: str = Field(min_length=1)
    """Text with {{text}} and, for pairs, {{text_pair}} (also {{premise}} and {{hypothesis}})."""
    system: str | None = None
    """System message."""
    verbalizer: dict[str, list[str]] = Field(min_length=2)
    """Label to the answer words that stand for it, for instance {positive: [positive, good]}."""
    task: str | None = None
    """The dataset (id) that it was written for, where known; reports only."""


# -------------------------------------------------------------------------------------------------------------- study


class UnifyConfig(Settings):
    """How the embeddings of a space are brought into one frame."""

    reference: Literal["keep", "renew", "none"] = "keep"
    """keep: the space's stored reference means (made once the population is large enough); renew: make a new
    version on purpose; none: no centring."""
    min_population: int = Field(default=8, ge=2)
    """Subjects of a kind below which no mean of their own is made."""
    neighbors: int = Field(default=100, ge=1)
    """Nearest subjects kept for each subject and kind."""


class TrackingConfig(Settings):
    """MLflow."""

    enabled: bool = True
    """Write every run to MLflow."""
    uri: str | None = Field(default=None, pattern=r"^[^@?]+$")
    """Default: an SQLite file in the store (mlflow.db). No user name or password in it: MLflow takes them from
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    experiment: str | None = None
    """Default: the study's name."""


class Study(Settings):
    """One run, from datasets and models to one space of embeddings."""

    name: Id
    """Name of the study: the MLflow experiment and the report's title."""
    store: str = "store"
    """Folder of the store, relative to the study file."""
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
    """Prompts to ask."""
    unify: UnifyConfig = UnifyConfig()
    """How vectors are brought into one frame and ranked."""
    tracking: TrackingConfig = TrackingConfig()
    """Where runs are tracked."""
    workers: int = Field(default=2, ge=1, le=256)
    """Tasks that run at once."""
    base_dir: Path = Field(default=Path(), exclude=True)
    """Set on loading: the folder that relative paths start from."""

    def path(self, relative: str) -> Path:
        """A path of the study, made absolute."""
        return (self.base_dir / Path(relative).expanduser()).resolve()

package query

// Op is an operator of a filter.
type Op int

const (
	Eq Op = iota + 1
	Neq
	Gt
	Gte
	Lt
	Lte
	Like
	ILike
	Match
	IMatch
	In
	Is
	IsDistinct
	FTS
	PlainFTS
	PhraseFTS
	WebFTS
	Contains
	Contained
	Overlaps
	StrictlyLeft
	StrictlyRight
	NotExtendsRight
	NotExtendsLeft
	Adjacent
)

// opInfo is what the grammar must know of an operator.
type opInfo struct {
	op Op
	// quant: takes `(any)` or `(all)`. config: takes `(configuration)`.
	quant, config bool
}

var ops = map[string]opInfo{
	"eq":         {op: Eq, quant: true},
	"neq":        {op: Neq},
	"gt":         {op: Gt, quant: true},
	"gte":        {op: Gte, quant: true},
	"lt":         {op: Lt, quant: true},
	"lte":        {op: Lte, quant: true},
	"like":       {op: Like, quant: true},
	"ilike":      {op: ILike, quant: true},
	"match":      {op: Match, quant: true},
	"imatch":     {op: IMatch, quant: true},
	"in":         {op: In},
	"is":         {op: Is},
	"isdistinct": {op: IsDistinct},
	"fts":        {op: FTS, config: true},
	"plfts":      {op: PlainFTS, config: true},
	"phfts":      {op: PhraseFTS, config: true},
	"wfts":       {op: WebFTS, config: true},
	"cs":         {op: Contains},
	"cd":         {op: Contained},
	"ov":         {op: Overlaps},
	"sl":         {op: StrictlyLeft},
	"sr":         {op: StrictlyRight},
	"nxr":        {op: NotExtendsRight},
	"nxl":        {op: NotExtendsLeft},
	"adj":        {op: Adjacent},
}

var isValues = []struct {
	name string
	is   IsValue
}{{"null", Null}, {"not_null", NotNull}, {"true", True}, {"false", False}, {"unknown", Unknown}}

var aggregates = map[string]Aggregate{
	"count": Count, "sum": Sum, "avg": Avg, "min": Min, "max": Max,
}

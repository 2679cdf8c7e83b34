"""Words and facts that the built-in tasks are made of, chosen so that every question has one answer."""

# A word belongs to exactly one category.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "animal": (
        *("dog", "cat", "horse", "sheep", "goat", "tiger", "lion", "rabbit", "mouse", "wolf"),
        *("bear", "monkey", "zebra", "camel", "eagle", "frog", "whale", "fox"),
    ),
    "fruit": (
        *("apple", "banana", "pear", "grape", "lemon", "cherry", "mango", "melon", "peach"),
        *("plum", "apricot", "papaya", "raspberry", "strawberry"),
    ),
    "vegetable": (
        *("carrot", "potato", "onion", "cabbage", "spinach", "broccoli", "celery", "leek"),
        *("parsnip", "lettuce", "radish", "turnip"),
    ),
    "tool": (
        *("hammer", "saw", "drill", "wrench", "screwdriver", "mallet", "chisel", "shovel", "rake", "axe"),
        *("spade", "crowbar"),
    ),
    "garment": (
        *("shirt", "coat", "sock", "scarf", "glove", "jacket", "skirt", "sweater", "hat", "belt"),
        *("vest", "dress"),
    ),
    "vehicle": (
        *("car", "bus", "truck", "train", "bicycle", "tram", "van", "tractor", "ferry"),
        *("motorcycle", "scooter", "ambulance", "lorry"),
    ),
    "instrument": (
        *("piano", "violin", "guitar", "flute", "drum", "trumpet", "harp", "cello", "clarinet"),
        *("banjo", "oboe", "trombone"),
    ),
    "profession": (
        *("teacher", "doctor", "farmer", "baker", "nurse", "lawyer", "plumber", "dentist", "pilot"),
        *("butcher", "carpenter", "tailor"),
    ),
    "building": (
        *("house", "castle", "hospital", "school", "church", "library", "museum", "factory"),
        *("hotel", "garage", "stable", "barn"),
    ),
}

# Each pair holds in both directions and no word occurs twice.
OPPOSITE_PAIRS: tuple[tuple[str, str], ...] = (
    *(("hot", "cold"), ("big", "small"), ("fast", "slow"), ("tall", "short"), ("old", "young")),
    *(("happy", "sad"), ("rich", "poor"), ("wet", "dry"), ("hard", "soft"), ("heavy", "light")),
    *(("open", "closed"), ("full", "empty"), ("early", "late"), ("high", "low"), ("clean", "dirty")),
    *(("thick", "thin"), ("strong", "weak"), ("loud", "quiet"), ("near", "far"), ("safe", "dangerous")),
    *(("day", "night"), ("up", "down"), ("left", "right"), ("in", "out"), ("first", "last")),
    *(("win", "lose"), ("buy", "sell"), ("push", "pull"), ("begin", "end"), ("love", "hate")),
    *(("north", "south"), ("east", "west"), ("summer", "winter"), ("true", "false"), ("deep", "shallow")),
    *(("cheap", "expensive"), ("wide", "narrow"), ("sharp", "blunt"), ("brave", "cowardly")),
    *(("polite", "rude"), ("simple", "complicated"), ("wild", "tame"), ("asleep", "awake")),
    *(("question", "answer"), ("friend", "enemy"), ("above", "below"), ("before", "after")),
)
OPPOSITES: dict[str, str] = {
    **dict(OPPOSITE_PAIRS),
    **{second: first for first, second in OPPOSITE_PAIRS},
}

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "purple", "orange", "pink", "grey")
COLOUR_OF: dict[str, str] = {
    **dict.fromkeys(("grass", "spinach", "a cucumber", "a pea", "a cactus", "broccoli"), "green"),
    **dict.fromkeys(("snow", "milk", "salt", "a swan", "a polar bear", "flour"), "white"),
    **dict.fromkeys(("blood", "a tomato", "a strawberry", "a fire engine", "a ladybird", "a ruby"), "red"),
    **dict.fromkeys(("a banana", "a lemon", "a sunflower", "butter", "a canary", "corn"), "yellow"),
    **dict.fromkeys(("coal", "a raven", "tar", "soot", "a panther"), "black"),
    **dict.fromkeys(("the clear sky", "a sapphire", "a cornflower"), "blue"),
    **dict.fromkeys(("chocolate", "a walnut", "soil", "cinnamon"), "brown"),
    **dict.fromkeys(("a carrot", "a pumpkin", "an apricot"), "orange"),
    **dict.fromkeys(("a flamingo", "a piglet"), "pink"),
    **dict.fromkeys(("an aubergine", "lavender"), "purple"),
    **dict.fromkeys(("an elephant", "ash", "concrete"), "grey"),
}

CAPITALS: dict[str, str] = {
    **{"France": "Paris", "Peru": "Lima", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid"},
    **{"Egypt": "Cairo", "Kenya": "Nairobi", "Cuba": "Havana", "Norway": "Oslo", "Sweden": "Stockholm"},
    **{"Finland": "Helsinki", "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna"},
    **{"Germany": "Berlin", "Portugal": "Lisbon", "Greece": "Athens", "Turkey": "Ankara"},
    **{"Russia": "Moscow", "China": "Beijing", "Canada": "Ottawa", "Chile": "Santiago"},
    **{"Ireland": "Dublin", "Hungary": "Budapest", "Belgium": "Brussels", "Iraq": "Baghdad"},
    **{"Iran": "Tehran", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Ghana": "Accra", "Morocco": "Rabat"},
    **{"Nepal": "Kathmandu", "Australia": "Canberra", "Qatar": "Doha", "Mali": "Bamako"},
    **{"Senegal": "Dakar", "Uganda": "Kampala", "Croatia": "Zagreb", "Serbia": "Belgrade"},
    **{"Bulgaria": "Sofia", "Romania": "Bucharest", "Iceland": "Reykjavik", "England": "London"},
    **{"Zambia": "Lusaka", "Fiji": "Suva", "Latvia": "Riga", "Estonia": "Tallinn"},
}

NAMES = (
    *("Mia", "Tom", "Anna", "Ben", "Lucy", "Sam", "Emma", "Jack", "Nora", "Paul", "Ella", "Max"),
    *("Rita", "Hugo", "Clara", "Leo", "Ivy", "Oscar", "Maria", "Adam", "Julia", "Peter", "Helen", "David"),
    *("Amina", "Omar", "Priya", "Ravi", "Yuki", "Kenji", "Carlos", "Ines"),
)
TOWNS = ("Lima", "Paris", "Cairo", "Oslo", "Rome", "Dublin", "Vienna", "Tokyo", "Madrid", "Athens", "Berlin")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)
# Things one can own, count and paint, singular to plural; every singular takes "a".
THINGS: dict[str, str] = {
    **{"ball": "balls", "book": "books", "box": "boxes", "kite": "kites", "cup": "cups", "lamp": "lamps"},
    **{"pencil": "pencils", "bag": "bags", "chair": "chairs", "coin": "coins", "key": "keys"},
    **{"stamp": "stamps", "card": "cards", "button": "buttons", "toy": "toys", "plate": "plates"},
    **{"marble": "marbles", "candle": "candles", "bottle": "bottles", "ribbon": "ribbons"},
}

CATEGORY_OF: dict[str, str] = {word: name for name, words in CATEGORIES.items() for word in words}
# For exercises on spelling and order; too little can be asked of words of two letters.
WORDS: tuple[str, ...] = tuple(sorted(word for word in {*CATEGORY_OF, *OPPOSITES, *COLOURS, *THINGS} if len(word) > 2))

"""A plain list of words that people search photographs by, for encoders that are fitted where there are no texts."""

_TEMPLATES = (
    "a photo of {}",
    "{}",
    "my picture of {}",
    "{} outside",
    "a close-up of {}",
    "{} in the evening",
    "{}, 2008",
)
_WORDS = """
people; a man; a woman; a child; a baby; a family; friends; a crowd; a couple; a portrait; a face; eyes; hands; hair
a dog; a cat; a horse; a cow; a bird; a duck; a fish; an insect; a butterfly; a spider; a lion; an elephant; a zoo
flowers; a rose; grass; leaves; a tree; a forest; a garden; a mushroom; fruit; a field; a farm; hay
the sea; a beach; waves; an island; a lake; a river; a waterfall; a mountain; a valley; rocks; a desert; a cave; ice
the sky; clouds; sunrise; a sunset; the moon; stars; night; fog; rain; snow; lightning; a rainbow; winter; spring
a city; a street; a house; a church; a castle; a tower; a skyscraper; a bridge; a window; a door; stairs; a wall; a roof
a room; a kitchen; a bed; a chair; a table; a desk; a lamp; books; a clock; a computer; a phone; a camera; a toy; a doll
a car; a bus; a train; a bicycle; a motorcycle; a truck; an airplane; a boat; a ship; a harbor; a station; an airport
food; bread; cake; coffee; a drink; a bottle; a glass; dinner; breakfast; vegetables; meat; ice cream; a restaurant
a wedding; a birthday; a party; Christmas; a concert; music; a guitar; dancing; a parade; fireworks; a museum; a school
football; running; swimming; skiing; surfing; climbing; a race; a stadium; a game; a playground; hiking; fishing
a shop; a market; clothes; shoes; a hat; a dress; jewelry; a sign; letters; graffiti; a painting; a statue; a map
black and white; red; blue; green; yellow; light; shadow; a reflection; a pattern; an old photograph; a drawing
"""


def caption_words() -> list[str]:
    """Short captions, one for each word, in the forms that people write.

    >>> caption_words()[:2], len(caption_words())
    (['a photo of people', 'a man'], 166)
    """
    words = [word.strip() for word in _WORDS.replace("\n", ";").split(";") if word.strip()]
    return [_TEMPLATES[place % len(_TEMPLATES)].format(word) for place, word in enumerate(words)]

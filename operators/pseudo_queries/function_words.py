"""English function words: what separates one content phrase from the next."""

FUNCTION_WORDS = frozenset(
    """
    a about above across after again against all almost along already also although always am among an and
    another any anyone anything are around as at away back be became because become becomes been before behind
    being below between both but by came can cannot come could did do does doing done down during each either
    else enough etc even ever every few first for from further gave get gets give given go goes going gone got
    had has have having he hence her here hers herself him himself his how however i if in instead into is it
    its itself just keep kept last least less let like likely made mainly make makes many may me might mine more
    most mostly much must my myself near need needs neither never next no nor not nothing now of off often on
    once one only onto or other others our ours out over own per perhaps put quite rather really said same say
    says see seen several shall she should since so some something sometimes soon still such take taken takes
    than that the their theirs them themselves then there therefore these they thing things this those though
    three through thus to together too took toward two under until up upon us use used uses using usually very
    via was way we well went were what whatever when where whether which while who whole whom whose why will
    with within without would yes yet you your yours yourself
    """.split()
)
"""Lower-case words that carry no topic of their own: determiners, pronouns, auxiliaries, prepositions,
conjunctions and the plainest verbs and adverbs."""
